"""Free room of a pipe or other descriptor, so that a write to it does not block."""

from __future__ import annotations

import fcntl
import select
import struct
import threading

PIPE_ATOMIC = select.PIPE_BUF
"""Bytes that a pipe which polls writable accepts at once, pipe(7): 4096 on Linux."""


def capacity(fd: int) -> int:
    """Return the bytes that an empty pipe accepts; ``PIPE_ATOMIC``, the only guarantee, for anything else."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except (AttributeError, OSError):
        return PIPE_ATOMIC


def has_room(fd: int, size: int, *, patience: float) -> bool:
    """Wait up to ``patience`` seconds until ``size`` bytes can be written; return whether they can.

    For more than ``PIPE_ATOMIC`` bytes a pipe must be empty, because the kernel does not report its free room.

    Raises:
        BrokenPipeError: there is no reader.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    events = poll.poll(patience * 1000)
    if not events:
        return False
    if events[0][1] & (select.POLLERR | select.POLLNVAL):
        raise BrokenPipeError("the pipe has no reader any more")
    return size <= PIPE_ATOMIC or empties(fd, patience=patience)


def empties(fd: int, *, patience: float) -> bool:
    """Wait up to ``patience`` seconds until a pipe is empty; return whether it is.

    The kernel reports no event for that, so the pipe is polled: every 50 µs at first, every 2 ms later.
    """
    pause, waited, step = threading.Event(), 0.0, 0.00005
    while unread(fd):
        if waited >= patience:
            return False
        pause.wait(step)
        waited, step = waited + step, min(2 * step, 0.002)
    return True


def unread(fd: int) -> int:
    """Return the number of unread bytes in a pipe; 0 where that cannot be determined."""
    try:
        import termios

        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0])
    except (ImportError, OSError):
        return 0
