"""Tells which files have changed, without looking at all of them: inotify, where the system has it."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator

_MODIFY, _MOVED_TO, _CREATE = 0x2, 0x80, 0x100
_DELETE_SELF, _MOVE_SELF, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x4000, 0x8000
_ONLYDIR = 0x01000000
_DIRECTORY_EVENTS = _CREATE | _MOVED_TO | _DELETE_SELF | _MOVE_SELF
_HEAD = struct.Struct("iIII")
_BUFFER = 1 << 16


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
        """Watch for files that appear in a directory; returns the watch."""
        return self._add(path, _DIRECTORY_EVENTS | _ONLYDIR)

    def _add(self, path: str, events: int) -> int | None:
        watch = int(self._libc.inotify_add_watch(self.fd, os.fsencode(path), events))
        return watch if watch >= 0 else None

    def forget(self, watch: int) -> None:
        """Watch no more. Nothing happens if the watch has gone by itself."""
        self._libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> Iterator[tuple[int, bool]]:
        """What has happened: (watch, whether that watch has ended). Watch -1 says that events were lost."""
        while True:
            try:
                data = os.read(self.fd, _BUFFER)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watch, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size + length
                yield (-1 if mask & _OVERFLOW else watch), bool(mask & _IGNORED)
            if len(data) < _BUFFER // 2:
                return

    def close(self) -> None:
        """Close the descriptor; all watches end."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
