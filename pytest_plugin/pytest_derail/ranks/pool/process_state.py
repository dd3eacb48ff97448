"""State of a reused rank: what a test may change, what is restored after it, and what cannot be restored.

Restored: environment, working directory, ``sys.path``, ``sys.argv``, standard streams, umask, the state of the random
generators of Python, numpy and torch, torch's default type, number of threads and gradient mode. A rank is replaced if
a test has left Python threads, descriptors or processes. It is also replaced if signal handlers, the signal mask,
resource limits or the default process group have changed.
"""

from __future__ import annotations

import functools
import gc
import os
import random
import signal
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derail.model.clock import SYSTEM_CLOCK
from derail.model.spec import JOB_ENV
from derail.platform.leftovers import Orphans
from derail.platform.proc_status import read_status, signal_mask
from derail.platform.processes import command_line, look_up
from pytest_derail.jobs.leaks import is_lasting, residents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SETTLE_SECONDS = 0.5
"""Seconds within which a thread or process that is ending must be gone."""

STREAMS = ("stdin", "stdout", "stderr")
PYTESTS_OWN = b"PYTEST_CURRENT_TEST"
GROUP = "default process group changed"
RANDOM = "random"
"""Prefix of the names of generators."""


@dataclass(frozen=True, slots=True)
class Condition:
    """State of a rank.

    Attributes:
        settings: what can be restored: name, value.
        marks: other single values: description of a change, value.
        things: existing objects: kind and key, description.
    """

    settings: Mapping[str, Any]
    marks: Mapping[str, object]
    things: Mapping[tuple[str, object], str]

    @classmethod
    def now(cls) -> Condition:
        """Read the current state."""
        return cls(dict(_settings()), dict(_marks()), dict(_things()))

    def with_changes(self, before: Condition, after: Condition) -> Condition:
        """Return this state plus the changes from ``before`` to ``after``, which are meant to stay."""
        return Condition(
            {**self.settings, **_news(before.settings, after.settings)},
            {**self.marks, **_news(before.marks, after.marks)},
            {**self.things, **_news(before.things, after.things)},
        )

    def restore(self) -> None:
        """Restore the settings."""
        now = dict(_settings())
        for name, value in self.settings.items():
            if name.startswith(RANDOM) or not now.get(name) == value:  # noqa: SIM201 - a missing one differs as well
                SETTERS[name](value)

    def left_since(self) -> list[tuple[str, str]]:
        """Return what cannot be restored: kind and description. Threads and processes get time to end."""
        left = list(self._differences())
        if left:
            gc.collect()
            left = list(self._differences())
        end = SYSTEM_CLOCK.now() + SETTLE_SECONDS
        while any(kind in ("thread", "process") for kind, _ in left) and SYSTEM_CLOCK.now() < end:
            threading.Event().wait(0.01)
            left = list(self._differences())
        return left

    def _differences(self) -> Iterator[tuple[str, str]]:
        now = dict(_marks())
        for name, value in self.marks.items():
            if now.get(name) != value:
                yield "mark", name
        for (kind, key), words in _things():
            if self.things.get((kind, key)) != words:
                yield kind, f"{kind} {words}"


def _news(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the new and changed entries. Generator states are excluded: reading changes none, and they are large."""
    return {
        key: value
        for key, value in after.items()
        if not str(key).startswith(RANDOM) and (key not in before or before[key] != value)
    }


def _settings() -> Iterator[tuple[str, Any]]:
    yield "environment", {name: value for name, value in os.environb.items() if name != PYTESTS_OWN}
    yield "working directory", _directory()
    yield "sys.path", list(sys.path)
    yield "sys.argv", list(sys.argv)
    yield "umask", _umask()
    yield "streams", tuple(getattr(sys, name) for name in STREAMS)
    yield f"{RANDOM} of Python", random.getstate()
    numpy, torch = sys.modules.get("numpy.random"), _torch()
    if hasattr(numpy, "get_state"):
        yield f"{RANDOM} of numpy", _numpy().get_state()
    if torch is not None:
        yield f"{RANDOM} of torch", torch.get_rng_state()
        yield "torch", (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())


def _set_environment(value: dict[bytes, bytes]) -> None:
    for name in os.environb.keys() - value.keys() - {PYTESTS_OWN}:
        del os.environb[name]
    os.environb.update({name: text for name, text in value.items() if os.environb.get(name) != text})


def _set_directory(value: str | None) -> None:
    if value is not None:
        os.chdir(value)


def _set_streams(value: tuple[Any, ...]) -> None:
    for name, stream in zip(STREAMS, value, strict=True):
        setattr(sys, name, stream)


def _set_path(value: list[str]) -> None:
    sys.path[:] = value


def _set_argv(value: list[str]) -> None:
    sys.argv[:] = value


def _set_torch(value: tuple[Any, int, bool]) -> None:
    torch = _torch()
    torch.set_default_dtype(value[0])
    torch.set_num_threads(value[1])
    torch.set_grad_enabled(value[2])


SETTERS: Mapping[str, Any] = {
    "environment": _set_environment,
    "working directory": _set_directory,
    "sys.path": _set_path,
    "sys.argv": _set_argv,
    "umask": os.umask,
    "streams": _set_streams,
    f"{RANDOM} of Python": random.setstate,
    f"{RANDOM} of numpy": lambda state: _numpy().set_state(state),
    f"{RANDOM} of torch": lambda state: _torch().set_rng_state(state),
    "torch": _set_torch,
}


def _marks() -> Iterator[tuple[str, object]]:
    import resource

    handled = _handled()
    for number, words in _handlers():
        # A handler that a library has set in C, as readline does, is None to Python.
        yield words, (signal.getsignal(number) or None) if handled >> (number - 1) & 1 else None
    yield "signal mask changed", signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield "resource limits changed", tuple(map(resource.getrlimit, _limits()))
    yield GROUP, process_group()


def _handled() -> int:
    """Return a bit for each signal that is caught or ignored; all bits if the kernel does not report them.

    Most signals are not handled, and asking Python about each of them is slower.
    """
    mask = signal_mask(read_status("self"), "SigIgn", "SigCgt")
    return -1 if mask is None else mask


@functools.cache
def _handlers() -> tuple[tuple[int, str], ...]:
    return tuple((int(number), f"handler of {_signal_name(number)} changed") for number in signal.valid_signals())


@functools.cache
def _limits() -> tuple[int, ...]:
    import resource

    return tuple(sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}))


def _things() -> Iterator[tuple[tuple[str, object], str]]:
    for thread in threading.enumerate():
        yield ("thread", thread.ident), repr(thread.name)
    kept = residents()
    for number, target in _descriptors():
        if str(number) in kept:
            continue
        yield ("descriptor", number), f"{number} {target}"
    for pid, command in _processes().items():
        yield ("process", pid), f"{pid}: {command}"


def _descriptors() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            yield int(name), os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor used to read the directory


def _processes() -> dict[int, str]:
    """Return the command lines of this rank's children and of its daemons.

    Zombies do not count, nor processes that serve the rank until it ends.
    """
    living = [process for process in map(look_up, _children()) if process is not None and process.alive]
    children = {process.pid: line for process in living if not is_lasting(line := command_line(process), process.pid)}
    return children | _daemons().find()


@functools.cache
def _daemons() -> Orphans:
    return Orphans(os.environ.get(JOB_ENV, "").rpartition(":")[2])


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {int(number)}"


def process_group() -> object:
    """Return torch's default process group, or None if there is none."""
    distributed: Any = sys.modules.get("torch.distributed")
    return distributed.group.WORLD if distributed is not None and distributed.is_available() else None


def _numpy() -> Any:
    return sys.modules["numpy.random"]


def _torch() -> Any:
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "get_rng_state") else None
