"""Effects of preloaded modules on a zygote, and whether ranks may be forked from it; runs in the zygote."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from derail.spawn.process_exit import MPI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from derail.model.spec import Preload

_Stamp: TypeAlias = tuple[int, int, int]
_Handlers: TypeAlias = dict[int, "Callable[..., Any] | int | None"]

_GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/render", "/dev/accel")


@dataclass(frozen=True, slots=True)
class Preloaded:
    """Effects of imported modules that a rank must have as if it had imported them itself.

    Attributes:
        sources: files of modules that are neither Python's nor installed nor derail's, with their state at the import.
        handlers: signal handlers that the modules have set.
        environment: variables that the modules have changed: value before, value after.
    """

    sources: Mapping[str, _Stamp | None]
    handlers: _Handlers
    environment: Mapping[str, tuple[str | None, str | None]]

    def changed_source(self) -> str:
        """Return a file that has changed since its import; empty if there is none."""
        for path, stamp in self.sources.items():
            if _stamp(path) != stamp:
                return path
        return ""

    def environment_of(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return a rank's environment after the import: with the modules' changes, except to the rank's own values."""
        changed = dict(env)
        for name, (before, after) in self.environment.items():
            if env.get(name) != before:
                continue
            if after is None:
                changed.pop(name, None)
            else:
                changed[name] = after
        return changed

    def renew(self) -> None:
        """Redo what each process does once, if it is loaded; called in a rank that has its environment and streams."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if os.environ.get("PYTHONFAULTHANDLER"):
            import faulthandler

            faulthandler.enable()
        # Python reseeds its own generator at each fork.
        numpy: Any = sys.modules.get("numpy.random")
        if numpy is not None:
            numpy.seed()
        torch: Any = getattr(sys.modules.get("torch"), "default_generator", None)
        if torch is not None:
            torch.seed()
        gc.unfreeze()


def preload(parts: Iterable[Preload]) -> Preloaded:
    """Import modules, and call functions; report failures on stderr. A rank that needs a failed one fails by itself."""
    before, handlers, loaded = dict(os.environ), _handlers(), set(sys.modules)
    for part in parts:
        if part == MPI:
            continue  # each rank imports it
        try:
            if isinstance(part, str):
                __import__(part)
            else:
                part()
        except BaseException as error:  # an import may raise anything, also SystemExit
            print(f"derail: could not preload {part!r}: {type(error).__name__}: {error}", file=sys.stderr)
    _forget_the_directory()
    changed = {n: (before.get(n), os.environ.get(n)) for n in before.keys() | os.environ.keys()}
    return Preloaded(
        sources={path: _stamp(path) for path in _sources(sys.modules.keys() - loaded)},
        handlers={n: handler for n, handler in _handlers().items() if handler != handlers[n] and callable(handler)},
        environment={name: pair for name, pair in changed.items() if pair[0] != pair[1]},
    )


def _forget_the_directory() -> None:
    """Let each rank choose its own temporary directory, unless a module has chosen one for all."""
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None and tempfile.tempdir is not None:
        chosen, tempfile.tempdir = tempfile.tempdir, None
        if chosen != tempfile.gettempdir():
            tempfile.tempdir = chosen
        else:
            tempfile.tempdir = None


def why_not_to_fork() -> str:
    """Return why no rank may be forked from this process; empty if it may be."""
    # Some libraries end their threads before each fork, and start new ones when needed: OpenBLAS does.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED)
    threads = count_threads()
    if threads > 1:
        return f"preloaded modules have started {threads - 1} thread(s), which a fork would not have"
    if (device := _open_gpu()) != "":
        return f"preloaded modules use a GPU ({device}); its context does not survive a fork"
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return ""
    return "preloaded modules have started a process, which would not be the rank's child"


def count_threads() -> int:
    """Return the number of threads of this process, including those of libraries."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _open_gpu() -> str:
    cuda: Any = sys.modules.get("torch.cuda")
    if cuda is not None and cuda.is_initialized():
        return "torch.cuda is initialized"
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return ""
    for number in numbers:
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith(_GPU_DEVICES):
            return f"{target} is open"
    return ""


def _sources(names: Iterable[str]) -> set[str]:
    import sysconfig

    installed = tuple(f"{sysconfig.get_path(key)}{os.sep}" for key in ("stdlib", "platstdlib", "purelib", "platlib"))
    files = {str(getattr(sys.modules.get(n), "__file__", None) or "") for n in names if n.partition(".")[0] != "derail"}
    return {file for file in files if os.path.isabs(file) and not file.startswith(installed)}


def _stamp(path: str) -> _Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _handlers() -> _Handlers:
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}
