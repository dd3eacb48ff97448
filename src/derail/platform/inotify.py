"""Changes of files, as the kernel announces them: inotify, where the system has it."""

from __future__ import annotations

import _thread
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator

NO_INOTIFY_ENV = "DERAIL_NO_INOTIFY"
"""Set to anything but the empty string, it makes ``Notifier.open`` refuse, as on a system without inotify."""

_MODIFY, _CLOSE_WRITE, _MOVED_TO, _CREATE = 0x2, 0x8, 0x80, 0x100
_DELETE_SELF, _MOVE_SELF, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x4000, 0x8000
_ONLYDIR, _MASK_ADD = 0x01000000, 0x20000000
_DIRECTORY_EVENTS = _CREATE | _MOVED_TO | _DELETE_SELF | _MOVE_SELF
_ARRIVAL_EVENTS = _CREATE | _MOVED_TO | _MOVE_SELF
_HEAD = struct.Struct("iIII")
_BUFFER = 1 << 16

LOST = -1
"""The watch of an event that says: the queue was full, and events were lost."""


class Change(NamedTuple):
    """One event: the watch (or ``LOST``), the name in the watched directory, and whether the watch has ended."""

    watch: int
    name: str
    ended: bool


class Notifier:
    """One inotify descriptor. A watch may be refused (too many, a strange file system); then the caller has to look.

    ``inotify(7)``: events of a local file system only, equal events in a row are merged, and the queue may overflow.
    """

    def __init__(self, libc: ctypes.CDLL, fd: int) -> None:
        self._libc = libc
        self.fd = fd

    @classmethod
    def open(cls) -> Notifier | None:
        """A notifier; None where there is no inotify, or no more of it for this user."""
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
        """Watch the file that is open as ``fd``, wherever it is moved; returns the watch."""
        return self._add(f"/proc/self/fd/{fd}", _MODIFY)

    def watch_directory(self, path: str) -> int | None:
        """Watch for files that appear in a directory, and for the end of the directory; returns the watch."""
        return self._add(path, _DIRECTORY_EVENTS | _ONLYDIR)

    def watch_arrivals(self, path: str) -> int | None:
        """Watch for files that appear in a directory, and for its move (a change without a name); returns the watch."""
        return self._add(path, _ARRIVAL_EVENTS | _ONLYDIR)

    def watch_content(self, path: str) -> int | None:
        """Watch for each writing to the file under a name, and for the end of writing; returns the watch.

        A watch that exists already reports that as well.
        """
        return self._add(path, _MODIFY | _CLOSE_WRITE | _MASK_ADD)

    def _add(self, path: str, events: int) -> int | None:
        watch = int(self._libc.inotify_add_watch(self.fd, os.fsencode(path), events))
        return watch if watch >= 0 else None

    def forget(self, watch: int) -> None:
        """Watch no more. Nothing happens if the watch has gone by itself."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> Iterator[Change]:
        """What has happened, in the order in which it happened."""
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
            wait: until the kernel has let go of the watches, which takes it 5 to 15 ms. Else a thread waits for that,
                and the number of the descriptor is free at once.
        """
        fd, self.fd = self.fd, -1
        if fd >= 0 and (wait or not _close_in_a_thread(fd)):
            os.close(fd)


_closing: set[_thread.LockType] = set()
"""Held by threads that wait for the kernel."""


def _close_in_a_thread(fd: int) -> bool:
    """Have a thread close a descriptor, and wait until its number is free; False if there is no thread left. It has the
    signal mask of this one. ``threading`` does not list it, since it runs no code but ``_close``."""
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
    """Python warns of a fork while there are threads, and the child would have the descriptor."""
    for busy in list(_closing):
        with busy:  # given back: others wait for the same thread
            pass


os.register_at_fork(before=_wait_before_fork, after_in_child=_closing.clear)  # the child has none of these threads
