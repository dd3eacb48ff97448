"""File changes as announced by the kernel: inotify, where the system has it.

The reasons are in docs/adr/own-mechanisms.md.
"""

from __future__ import annotations

import _thread
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator

NO_INOTIFY_ENV = "DERAIL_NO_INOTIFY"
"""Environment variable: if not empty, ``Notifier.open`` returns None, as on a system without inotify."""

_MODIFY, _CLOSE_WRITE, _MOVED_TO, _CREATE = 0x2, 0x8, 0x80, 0x100
_DELETE_SELF, _MOVE_SELF, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x4000, 0x8000
_ONLYDIR, _MASK_ADD = 0x01000000, 0x20000000
_DIRECTORY_EVENTS = _CREATE | _MOVED_TO | _DELETE_SELF | _MOVE_SELF
_ARRIVAL_EVENTS = _CREATE | _MOVED_TO | _MOVE_SELF
_HEAD = struct.Struct("iIII")
_BUFFER = 1 << 16

LOST = -1
"""Watch of an event which reports that the queue was full, and events were lost."""


class Change(NamedTuple):
    """One event: the watch (or ``LOST``), the name in the watched directory, and whether the watch has ended."""

    watch: int
    name: str
    ended: bool


class Notifier:
    """One inotify descriptor. If a watch is refused (limit, unusual file system), the caller has to check the file.

    ``inotify(7)``: only events of a local file system, equal consecutive events are merged, the queue may overflow.
    """

    def __init__(self, libc: ctypes.CDLL, fd: int) -> None:
        self._libc = libc
        self.fd = fd

    @classmethod
    def open(cls) -> Notifier | None:
        """Return a notifier; None without inotify, or beyond this user's limit."""
        import ctypes

        if os.environ.get(NO_INOTIFY_ENV):
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        except AttributeError:
            return None
        return cls(libc, fd) if fd >= 0 else None

    def watch_file(self, fd: int) -> int | None:
        """Watch the file that is open as ``fd``, wherever it is moved; return the watch."""
        return self._add(f"/proc/self/fd/{fd}", _MODIFY)

    def watch_directory(self, path: str) -> int | None:
        """Watch for files that appear in a directory, and for the end of the directory; return the watch."""
        return self._add(path, _DIRECTORY_EVENTS | _ONLYDIR)

    def watch_arrivals(self, path: str) -> int | None:
        """Watch for files that appear in a directory, and for its move (a change without a name); return the watch."""
        return self._add(path, _ARRIVAL_EVENTS | _ONLYDIR)

    def watch_content(self, path: str) -> int | None:
        """Watch for each write to the file under a name, and for the end of writing; return the watch.

        An existing watch reports that additionally.
        """
        return self._add(path, _MODIFY | _CLOSE_WRITE | _MASK_ADD)

    def _add(self, path: str, events: int) -> int | None:
        watch = int(self._libc.inotify_add_watch(self.fd, os.fsencode(path), events))
        return watch if watch >= 0 else None

    def forget(self, watch: int) -> None:
        """Remove a watch, if it still exists."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> Iterator[Change]:
        """Yield the events, in order."""
        while True:
            try:
                data = os.read(self.fd, _BUFFER)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watch, mask, _, length = _HEAD.unpack_from(data, at)
                name = os.fsdecode(data[at + _HEAD.size : at + _HEAD.size + length].rstrip(b"\0"))
                at += _HEAD.size + length
                yield Change(LOST if mask & _OVERFLOW else watch, name, bool(mask & _IGNORED))
            if len(data) < _BUFFER // 2:
                return

    def close(self, *, wait: bool = True) -> None:
        """Close the descriptor; all watches end. Idempotent.

        Args:
            wait: wait until the kernel has released the watches, which takes 5 to 15 ms. Otherwise a thread waits for
                that, and the number of the descriptor is free at once.
        """
        fd, self.fd = self.fd, -1
        if fd >= 0 and (wait or not _close_in_a_thread(fd)):
            os.close(fd)


_closing: set[_thread.LockType] = set()
"""Locks held by threads that wait for the kernel."""


def _close_in_a_thread(fd: int) -> bool:
    """Close a descriptor in a thread, and wait until its number is free; return False if there is no thread left.

    The thread has the signal mask of this one. ``threading`` does not list it, because it runs only ``_close``.
    """
    busy = _thread.allocate_lock()
    busy.acquire()
    _closing.add(busy)
    try:
        _thread.start_new_thread(_close, (fd, busy))
    except RuntimeError:
        _closing.discard(busy)
        return False
    while busy.locked() and _is_open(fd):
        os.sched_yield()
    return True


def _close(fd: int, busy: _thread.LockType) -> None:
    try:
        os.close(fd)
    finally:
        _closing.discard(busy)
        busy.release()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _wait_before_fork() -> None:
    """Wait for the closing threads: Python warns of a fork with threads, and the child would have the descriptor."""
    for busy in list(_closing):
        with busy:  # released at once: others wait for the same thread
            pass


os.register_at_fork(before=_wait_before_fork, after_in_child=_closing.clear)  # the child has none of these threads
