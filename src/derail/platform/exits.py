"""Has this child ended, and how? Seen without reaping it, so that its pid and its group stay reserved.

Three ways, and one contract. Linux gives a pidfd, macOS and the BSDs a kqueue; where neither is to be had, a thread per
child sits in ``waitid``. (One thread for all children is no way: ``waitid`` for any child answers with the same zombie
again and again as long as that is not reaped, and not reaping is the point.) In each case the descriptor polls readable
from the moment the child has ended, and ``waitid`` with WNOWAIT tells how.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import threading
from math import ceil
from typing import TYPE_CHECKING

from derail.model.exit import ExitStatus
from derail.platform.threads import start_thread
from derail.platform.zombies import from_wait_status, status_of_zombie

if TYPE_CHECKING:
    from collections.abc import Callable

NO_PIDFD_ENV = "DERAIL_NO_PIDFD"
"""Set to anything but the empty string, it makes every exit descriptor use the waiting thread."""

_EXIT_CODES = frozenset({os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED})
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT

# include/uapi/linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info), 64 bytes in its first version; Linux 6.15 and later.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_SIZE = 64
_PIDFD_INFO_EXIT = 1 << 3

_LOST = (
    "process {pid} was reaped by somebody else, or SIGCHLD was ignored, and this kernel does not keep the status;"
    " look for os.wait(), waitpid(-1) or signal(SIGCHLD, SIG_IGN) in the launching process"
)


class ExitFd:
    """A descriptor that polls readable from the moment a process has ended. It owns what it stands for."""

    __slots__ = ("_close", "_fd", "_opened_by", "_pidfd")

    def __init__(self, fd: int, *, pidfd: bool, close: Callable[[], None]) -> None:
        self._fd = fd
        self._pidfd = pidfd
        self._close: Callable[[], None] | None = close
        self._opened_by = os.getpid()

    def fileno(self) -> int:
        """The descriptor, to be polled and never read; -1 once closed."""
        return self._fd

    @property
    def pidfd(self) -> int | None:
        """The descriptor if it is a pidfd, by which the process can be signalled; else None, also once closed."""
        return self._fd if self._pidfd and self._fd >= 0 else None

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._fd < 0

    def close(self) -> None:
        """Close the descriptor. Idempotent; does not touch the process."""
        close, self._close, self._fd = self._close, None, -1
        if close is not None:
            close()

    def __del__(self) -> None:
        """Whoever drops a handle without closing it leaks nothing.

        In a forked child the number may have been closed already, and be something else by now.
        """
        if self._opened_by == os.getpid():
            self.close()


def open_exit_fd(pid: int, *, use_pidfd: bool | None = None) -> ExitFd:
    """Open a descriptor that polls readable once ``pid`` has ended; readable at once if it is gone already.

    Args:
        pid: a child of this process that nobody has reaped (with a pidfd, any process).
        use_pidfd: False takes the waiting thread, for tests; None lets the platform and ``NO_PIDFD_ENV`` decide.

    Raises:
        OSError: if there is no descriptor left (EMFILE, ENFILE), or no thread (EAGAIN).
    """
    if use_pidfd is None:
        use_pidfd = not os.environ.get(NO_PIDFD_ENV)
    if use_pidfd and hasattr(os, "pidfd_open"):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return _open_readable()
        except OSError as error:
            # Old kernels and strict sandboxes have no pidfd_open; anything else is a real shortage.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
        else:
            return ExitFd(fd, pidfd=True, close=lambda: os.close(fd))
    if use_pidfd and sys.platform != "linux" and hasattr(select, "kqueue"):
        return _open_kqueue(pid)
    return _open_waiting_thread(pid)


def peek(pid: int, exit_fd: ExitFd) -> ExitStatus | None:
    """How the child ended, without reaping it; None while it lives, and also while it is stopped or traced.

    If somebody else reaped it, its status comes from the kernel by the pidfd where that is possible, and is a lost one
    elsewhere. It is never made up.
    """
    try:
        result = os.waitid(*_whom(pid, exit_fd), _LOOK)
    except ChildProcessError:
        return _status_of_stolen(pid, exit_fd)
    if result is not None and result.si_code in _EXIT_CODES:
        return ExitStatus.from_waitid(result)
    # A tracer gets stops and traps whatever it asked for (ptrace(2)); they are no exits.
    pidfd = exit_fd.pidfd
    if result is None and pidfd is not None and is_readable(pidfd):
        return _status_of_traced(pid, exit_fd)
    return None


def is_unreaped(pid: int, exit_fd: ExitFd) -> bool:
    """Whether the child, alive or a zombie, still holds its pid: nobody has reaped it."""
    try:
        os.waitid(*_whom(pid, exit_fd), _LOOK)
    except ChildProcessError:
        return False
    return True


def reap(pid: int, exit_fd: ExitFd) -> ExitStatus | None:
    """Take the child out of the process table if it has ended, and say how; None if it still lives. Does not block.

    One that somebody else traces stays there until its tracer has let go of it.
    """
    status = peek(pid, exit_fd)
    if status is not None:
        reap_ended(pid, exit_fd)
    return status


def reap_ended(pid: int, exit_fd: ExitFd) -> bool:
    """Take a child out of the process table that was seen to have ended; whether it is out of it.

    To be called after an exit was seen only: it would swallow the stop of a traced child.
    """
    try:
        return os.waitid(*_whom(pid, exit_fd), os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def wait_readable(exit_fd: ExitFd, seconds: float | None) -> bool:
    """Block until the process has ended, for at most ``seconds`` (None: without a bound). For owners of one process."""
    return is_readable(exit_fd.fileno(), seconds)


def is_readable(fd: int, seconds: float | None = 0.0) -> bool:
    """Whether ``fd`` becomes readable within ``seconds``."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0, ceil(seconds * 1000))))


def _whom(pid: int, exit_fd: ExitFd) -> tuple[int, int]:
    """By pidfd, so that a number that was reaped and given to another child cannot answer in its place."""
    pidfd = exit_fd.pidfd
    return (os.P_PID, pid) if pidfd is None else (os.P_PIDFD, pidfd)


def _status_of_traced(pid: int, exit_fd: ExitFd) -> ExitStatus | None:
    """A debugger or strace that is not this process sees a zombie first, and hides it from ``waitid`` until it has
    looked; the descriptor is readable meanwhile. /proc shows the status to whoever may trace the process."""
    try:
        # It may have become visible between the two questions.
        result = os.waitid(*_whom(pid, exit_fd), _LOOK)
        if result is not None:
            return ExitStatus.from_waitid(result)
    except ChildProcessError:
        return _status_of_stolen(pid, exit_fd)
    return status_of_zombie(pid)


def _status_of_stolen(pid: int, exit_fd: ExitFd) -> ExitStatus | None:
    pidfd = exit_fd.pidfd
    if pidfd is None:
        return ExitStatus(lost=_LOST.format(pid=pid))
    if not is_readable(pidfd):
        return None
    # The thief has marked the zombie as taken, but the kernel may still be about to file the status: a few
    # microseconds, so a handful of short looks is plenty.
    pause = threading.Event()
    for _ in range(20):
        known = ask_kernel(pidfd)
        if known is None:
            pause.wait(0.0005)
        else:
            return known
    return ExitStatus(lost=_LOST.format(pid=pid))


def ask_kernel(pidfd: int) -> ExitStatus | None:
    """What PIDFD_GET_INFO says of a process that was reaped; None if it does not say."""
    import fcntl
    import struct

    info = bytearray(_PIDFD_INFO_SIZE)
    struct.pack_into("=Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    (mask,) = struct.unpack_from("=Q", info, 0)
    if not mask & _PIDFD_INFO_EXIT:
        return None
    (wait_status,) = struct.unpack_from("=i", info, _PIDFD_INFO_SIZE - 4)
    return from_wait_status(wait_status)


def _open_readable() -> ExitFd:
    """For a process that is gone before anybody could look: readable at once."""
    read_end, write_end = os.pipe()
    os.close(write_end)
    return ExitFd(read_end, pidfd=False, close=lambda: os.close(read_end))


if sys.platform != "linux" and hasattr(select, "kqueue"):

    def _open_kqueue(pid: int) -> ExitFd:
        """A kqueue of one filter; it polls readable when the filter has fired."""
        queue = select.kqueue()
        flags = select.KQ_EV_ADD | select.KQ_EV_ONESHOT
        try:
            queue.control([select.kevent(pid, select.KQ_FILTER_PROC, flags, select.KQ_NOTE_EXIT)], 0)
        except ProcessLookupError:
            # macOS refuses to watch a zombie.
            queue.close()
            return _open_readable()
        except BaseException:
            queue.close()
            raise
        return ExitFd(queue.fileno(), pidfd=False, close=queue.close)


def _open_waiting_thread(pid: int) -> ExitFd:
    read_end, write_end = os.pipe()
    try:
        # The thread keeps a read end too: to write to a pipe that nobody reads would raise SIGPIPE.
        kept = os.dup(read_end)
    except BaseException:
        os.close(read_end)
        os.close(write_end)
        raise
    thread = threading.Thread(
        target=_wait_and_tell, args=(pid, kept, write_end), name=f"derail-exit-of-{pid}", daemon=True
    )
    try:
        start_thread(thread)
    except BaseException as error:
        # A signal handler may have raised when the thread ran already: the other two are its own then.
        for fd in (read_end,) if thread.ident is not None else (read_end, write_end, kept):
            os.close(fd)
        if isinstance(error, RuntimeError):  # "can't start new thread"
            raise OSError(errno.EAGAIN, f"no thread to wait for process {pid}: {error}") from error
        raise
    return ExitFd(read_end, pidfd=False, close=lambda: os.close(read_end))


def _wait_and_tell(pid: int, kept: int, write_end: int) -> None:
    """Runs in a thread of its own until the child has ended. The descriptors are its own, so that nobody needs a lock:
    at the end of the interpreter a daemon thread stops wherever it is, and would take a lock with it."""
    pause = threading.Event()
    while True:
        try:
            result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            break
        if result is not None and result.si_code in _EXIT_CODES:
            break
        # A child that we trace is in a stop, and waitid would say so again at once.
        pause.wait(0.02)
    os.write(write_end, b"!")
    os.close(write_end)
    os.close(kept)
