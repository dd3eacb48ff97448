"""Setup of a rank forked from a running Python process: what it drops, and what it gets.

A fork inherits everything: handlers, masks, streams, locks, the stack of its parent. In these things, a user must not
be able to distinguish the rank from a fresh interpreter, and it must never return into that stack.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derail.platform import marks
from derail.spawn import streams
from derail.spawn.return_values import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from derail.model.spec import RankSpec
    from derail.spawn.zygote.preload import Preloaded

NOT_STARTED = 71
"""EX_OSERR: the exit code of a forked child that did not become a rank, or was not allowed to run."""

REPORT_LIMIT = 4000
"""Maximum bytes of a report: it is written to a pipe in one piece."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The state that a forked rank sets up.

    Attributes:
        rank: local rank.
        env: the whole environment.
        cwd: working directory; None for the parent's.
        cpus: logical CPUs; None for no binding.
        stdout: descriptor to use as standard output; it may be the existing one.
        stderr: the same for standard error.
        umask: file mode creation mask; None for the parent's.
        limits: resource limits: number, soft, hard.
        ignored: the signals that are ignored; None for those of the parent.
    """

    rank: int
    env: dict[str, str]
    cwd: str | None
    cpus: tuple[int, ...] | None
    stdout: int
    stderr: int
    umask: int | None = None
    limits: tuple[tuple[int, int, int], ...] = ()
    ignored: tuple[int, ...] | None = None

    @classmethod
    def of(cls, spec: RankSpec, stdout: int, stderr: int) -> Setting:
        """Return the setting in ``spec``, with its opened streams."""
        return cls(
            rank=spec.rank,
            env=dict(spec.env),
            cwd=None if spec.cwd is None else str(spec.cwd),
            cpus=None if spec.cpus is None else tuple(sorted(spec.cpus)),
            stdout=stdout,
            stderr=stderr,
        )


def fork(child: Callable[[], None]) -> int:
    """Fork; the child runs ``child`` and ends; return its pid in the parent.

    Signals are blocked around the fork and still are when ``child`` begins, so that no handler of the parent can raise
    in it: it calls ``reset_signals`` first.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = _fork_in_silence()
        if pid == 0:
            try:
                child()
            finally:
                os._exit(70)  # EX_SOFTWARE: only after an error; ``child`` exits in ``leave``
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _fork_in_silence() -> int:
    """Fork without the warning, since Python 3.12, that threads may hold locks: the child drops what it can."""
    if sys.version_info < (3, 12):
        return os.fork()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def become_rank(
    setting: Setting,
    report_fd: int,
    in_child: Callable[[], None] | None = None,
    *,
    preloaded: Preloaded | None = None,
) -> None:
    """Turn this forked child into the rank, report success or the problem to ``report_fd``, and close that.

    If that fails, or the report has no reader, the process ends here.

    Args:
        setting: the state to set up.
        report_fd: descriptor for the report.
        in_child: called first, when signals are as in a fresh interpreter.
        preloaded: effects of the preloaded modules for each rank, which the parent did not keep for itself.
    """
    try:
        reset_signals(setting.ignored)
        if in_child is not None:
            in_child()
        os.setsid()
        os.environ.clear()
        os.environ.update(setting.env)
        streams.take(setting.stdout, setting.stderr)
        _enter(setting.cwd)
        _bind(setting.cpus)
        _limit(setting)
        marks.mark_rank(setting.env, setting.rank)
    except BaseException as error:  # on any error, report to the launcher and run nothing else
        if isinstance(error, OSError) and error.errno is not None:
            _report(report_fd, f"failed {error.errno} {error.strerror}")
        else:
            _report(report_fd, f"failed 0 {describe(error)}")
        os._exit(NOT_STARTED)
    if not _report(report_fd, f"ready {os.getpid()}"):
        os._exit(NOT_STARTED)
    os.close(report_fd)
    # From here on no error is possible that the launcher would have to wait for.
    _forget_the_parent()
    if preloaded is not None:
        preloaded.renew()


def _enter(directory: str | None) -> None:
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            text = f"its working directory {directory!r} cannot be entered: {error.strerror}"
            raise OSError(error.errno, text) from None


def _bind(cpus: tuple[int, ...] | None) -> None:
    if cpus is not None and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, cpus)
        except OSError as error:
            raise OSError(error.errno, f"it cannot be bound to CPUs {list(cpus)}: {error.strerror}") from None


def _limit(setting: Setting) -> None:
    if setting.umask is not None:
        os.umask(setting.umask)
    if setting.limits:
        import resource

        for number, soft, hard in setting.limits:
            if resource.getrlimit(number) != (soft, hard):
                resource.setrlimit(number, (soft, hard))


def read_report(report: bytes) -> int:
    """Return the pid of a child that is ready; called in the launcher.

    Raises:
        OSError: the reason why it could not become the rank.
        ValueError: the same, where the operating system has no number for it.
    """
    verb, _, rest = report.decode("utf-8", "replace").partition("\n")[0].partition(" ")
    if verb == "ready":
        return int(rest)
    number, _, text = rest.partition(" ")
    if verb != "failed":
        raise OSError(errno.ECHILD, "its process ended, or hung, before it had its own session")
    if number == "0":
        raise ValueError(text)
    raise OSError(int(number), text)


def reset_signals(ignored: Collection[int] | None = None) -> None:
    """Reset every signal to its action in a fresh interpreter, and unblock all.

    Ignored signals stay ignored, as they would through ``exec``: SIGHUP under ``nohup``, SIGPIPE in every Python. With
    ``ignored``, exactly these are ignored.
    """
    signal.set_wakeup_fd(-1)
    faulthandler: Any = sys.modules.get("faulthandler")
    if faulthandler is not None:
        faulthandler.disable()  # it would write to the parent's stderr
    for number in signal.valid_signals() - {signal.SIGINT}:
        try:
            if faulthandler is not None:
                faulthandler.unregister(number)
        except RuntimeError:
            pass  # SIGSEGV and similar signals: disabled above
        try:
            # Also signals that Python takes for default: libraries set handlers without its knowledge.
            if not _is_ignored(number, ignored):
                signal.signal(number, signal.SIG_DFL)
            elif ignored is not None:
                signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass  # the C library reserves two signals for itself
    interruptible = not _is_ignored(signal.SIGINT, ignored)
    if interruptible or ignored is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler if interruptible else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _is_ignored(number: int, ignored: Collection[int] | None) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN if ignored is None else number in ignored


def _report(fd: int, line: str) -> bool:
    """Report to the launcher; return False if it is gone, or has given up on this rank."""
    try:
        os.write(fd, line.replace("\n", " ").encode("utf-8", "backslashreplace")[: REPORT_LIMIT - 1] + b"\n")
    except OSError:
        return False
    return True


def _forget_the_parent() -> None:
    """Drop what only the parent may run or wait for: exit functions and children (asyncio checks the pid itself)."""
    import atexit
    import threading

    main: Any = threading.main_thread()
    # If a daemon forked this process, its children would be daemons as well, and would not be waited for.
    main._daemonic = False  # noqa: SLF001
    main._name = "MainThread"  # noqa: SLF001
    atexit._clear()  # noqa: SLF001
    _renew_exit_functions()
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        process._children = set()  # noqa: SLF001 - as multiprocessing does in its own children
        process.current_process()._config.pop("tempdir", None)  # noqa: SLF001 - the parent removes it when it ends
    _forget_the_fork_server()
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()  # noqa: SLF001
        util._run_after_forkers()  # noqa: SLF001
        atexit.register(util._exit_function)  # noqa: SLF001


def _forget_the_fork_server() -> None:
    """Make multiprocessing start a separate fork server for the rank.

    The parent's is no child of this process, and must notice the exit of its parent although this process continues.
    """
    import threading

    module: Any = sys.modules.get("multiprocessing.forkserver")
    server = None if module is None else module._forkserver  # noqa: SLF001
    if server is not None and server._forkserver_alive_fd is not None:  # noqa: SLF001
        os.close(server._forkserver_alive_fd)  # noqa: SLF001
        server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None  # noqa: SLF001
        server._lock = threading.RLock() if hasattr(server._lock, "_is_owned") else threading.Lock()  # noqa: SLF001


def _renew_exit_functions() -> None:
    """Register again the exit functions of Python's own modules for what this process does itself."""
    import atexit
    import weakref

    logging: Any = sys.modules.get("logging")
    if logging is not None:
        atexit.register(logging.shutdown)
    finalize: Any = weakref.finalize
    for each in tuple(finalize._registry):  # noqa: SLF001
        each.atexit = False  # it belongs to the parent, which may still use the temporary directory
    if finalize._registered_with_atexit:  # noqa: SLF001
        atexit.register(finalize._exitfunc)  # noqa: SLF001
