"""Exit detection of a child, and its status, without reaping it, so that its pid and its group stay reserved.

There are three ways with one contract. Linux has a pidfd, macOS and the BSDs a kqueue; without either, a thread per
child blocks in ``waitid``. One thread for all children is impossible: ``waitid`` for any child returns the same zombie
again and again until it is reaped, and not reaping is the point. In each case the descriptor polls readable from the
exit of the child on, and ``waitid`` with WNOWAIT returns the status.

The reasons are in docs/adr/no-early-reaping.md.
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
"""Environment variable: if not empty, every exit descriptor uses the waiting thread."""

_EXIT_CODES = frozenset({os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED})
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT

# include/uapi/linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info), 64 bytes in its first version; Linux 6.15 and later.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_SIZE = 64
_PIDFD_INFO_EXIT = 1 << 3

_LOST = (
    "process {pid} was reaped by other code, or SIGCHLD was ignored, and this kernel does not keep the status;"
    " look for os.wait(), waitpid(-1) or signal(SIGCHLD, SIG_IGN) in the launching process"
)


class ExitFd:
    """A descriptor that polls readable from the exit of a process on. It owns what it represents."""

    __slots__ = ("_close", "_fd", "_opened_by", "_pidfd")

    def __init__(self, fd: int, *, pidfd: bool, close: Callable[[], None]) -> None:
        self._fd = fd
        self._pidfd = pidfd
        self._close: Callable[[], None] | None = close
        self._opened_by = os.getpid()

    def fileno(self) -> int:
        """Return the descriptor, to be polled and never read; -1 once closed."""
        return self._fd

    @property
    def pidfd(self) -> int | None:
        """The descriptor if it is a pidfd, with which the process can be signalled; else None, also once closed."""
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
        """Close the descriptor of a dropped handle.

        Not in a forked child: there the number may have been closed already, and reused.
        """
        if self._opened_by == os.getpid():
            self.close()


def open_exit_fd(pid: int, *, use_pidfd: bool | None = None) -> ExitFd:
    """Open a descriptor that polls readable once ``pid`` has ended; readable at once if it is gone already.

    Args:
        pid: an unreaped child of this process (with a pidfd, any process).
        use_pidfd: False selects the waiting thread, for tests; None lets the platform and ``NO_PIDFD_ENV`` decide.

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
    """Return the exit status without reaping; None while the child lives, also while it is stopped or traced.

    If other code reaped it, its status is read from the kernel by the pidfd where that is possible, and is a lost one
    elsewhere. It is never invented.
    """
    try:
        result = os.waitid(*_whom(pid, exit_fd), _LOOK)
    except ChildProcessError:
        return _status_of_stolen(pid, exit_fd)
    if result is not None and result.si_code in _EXIT_CODES:
        return ExitStatus.from_waitid(result)
    # A tracer gets stops and traps whatever it requested (ptrace(2)); they are no exits.
    pidfd = exit_fd.pidfd
    if result is None and pidfd is not None and is_readable(pidfd):
        return _status_of_traced(pid, exit_fd)
    return None


def is_unreaped(pid: int, exit_fd: ExitFd) -> bool:
    """Return whether the child, alive or a zombie, still holds its pid: it has not been reaped."""
    try:
        os.waitid(*_whom(pid, exit_fd), _LOOK)
    except ChildProcessError:
        return False
    return True


def reap(pid: int, exit_fd: ExitFd) -> ExitStatus | None:
    """Reap the child if it has ended, and return its status; None if it still lives. Does not block.

    A child that another process traces stays a zombie until its tracer has detached.
    """
    status = peek(pid, exit_fd)
    if status is not None:
        reap_ended(pid, exit_fd)
    return status


def reap_ended(pid: int, exit_fd: ExitFd) -> bool:
    """Reap a child with a detected exit; return whether it is out of the process table.

    Call it only after a detected exit: otherwise it would consume the stop of a traced child.
    """
    try:
        return os.waitid(*_whom(pid, exit_fd), os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def wait_readable(exit_fd: ExitFd, seconds: float | None) -> bool:
    """Block until the process has ended, for at most ``seconds`` (None: no limit). For owners of one process."""
    return is_readable(exit_fd.fileno(), seconds)


def is_readable(fd: int, seconds: float | None = 0.0) -> bool:
    """Return whether ``fd`` becomes readable within ``seconds``."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0, ceil(seconds * 1000))))


def _whom(pid: int, exit_fd: ExitFd) -> tuple[int, int]:
    """Return the ``waitid`` target: the pidfd if possible, so that a reused pid cannot be queried by mistake."""
    pidfd = exit_fd.pidfd
    return (os.P_PID, pid) if pidfd is None else (os.P_PIDFD, pidfd)


def _status_of_traced(pid: int, exit_fd: ExitFd) -> ExitStatus | None:
    """Return the status of a child that ``waitid`` hides although the descriptor is readable.

    A debugger or strace outside this process sees a zombie first, and hides it from ``waitid`` until it has looked.
    /proc shows the status to any process that may trace the child.
    """
    try:
        # It may have become visible between the two queries.
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
    # The reaper has marked the zombie as taken, but the kernel may not have stored the status yet: that takes a few
    # microseconds, so a few short looks are plenty.
    pause = threading.Event()
    for _ in range(20):
        status = ask_kernel(pidfd)
        if status is None:
            pause.wait(0.0005)
        else:
            return status
    return ExitStatus(lost=_LOST.format(pid=pid))


def ask_kernel(pidfd: int) -> ExitStatus | None:
    """Return the status of a reaped process by PIDFD_GET_INFO; None if the kernel has none."""
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
    """Open a descriptor that is readable at once, for a process that was gone before it could be watched."""
    read_end, write_end = os.pipe()
    os.close(write_end)
    return ExitFd(read_end, pidfd=False, close=lambda: os.close(read_end))


if sys.platform != "linux" and hasattr(select, "kqueue"):

    def _open_kqueue(pid: int) -> ExitFd:
        """Open a kqueue with one filter; it polls readable when the filter has fired."""
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
        # The thread keeps a read end as well: a write to a pipe without a reader would raise SIGPIPE.
        kept = os.dup(read_end)
    except BaseException:
        os.close(read_end)
        os.close(write_end)
        raise
    thread = threading.Thread(
        target=_wait_and_report, args=(pid, kept, write_end), name=f"derail-exit-of-{pid}", daemon=True
    )
    try:
        start_thread(thread)
    except BaseException as error:
        # A signal handler may have raised when the thread ran already: then it owns the other two.
        for fd in (read_end,) if thread.ident is not None else (read_end, write_end, kept):
            os.close(fd)
        if isinstance(error, RuntimeError):  # "can't start new thread"
            raise OSError(errno.EAGAIN, f"no thread to wait for process {pid}: {error}") from error
        raise
    return ExitFd(read_end, pidfd=False, close=lambda: os.close(read_end))


def _wait_and_report(pid: int, kept: int, write_end: int) -> None:
    """Wait for the exit of the child in a separate thread, and write to the pipe.

    The thread owns its descriptors, so that no lock is needed: at interpreter exit a daemon thread stops anywhere, and
    would never release a lock.
    """
    pause = threading.Event()
    while True:
        try:
            result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            break
        if result is not None and result.si_code in _EXIT_CODES:
            break
        # A child that we trace is in a stop, and waitid would return that again at once.
        pause.wait(0.02)
    os.write(write_end, b"!")
    os.close(write_end)
    os.close(kept)
