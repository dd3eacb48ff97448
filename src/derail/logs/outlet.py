"""One stream that somebody writes to, looked at: what is behind it, and how to write there without tearing or blocking.

Ways that were rejected: writing to the text stream from another thread (before 3.13 it loses what the host prints
meanwhile, CPython gh-119506); ``O_NONBLOCK`` on the descriptor (it is shared with the host, its shell and the ranks);
writing to a pipe beside the host's buffer (a nearly full pipe then tears the host's lines by ours).
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.logs.pipes import PIPE_ATOMIC, capacity, empties, has_room

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import TextIO

_TEXT_UNIT = 1 << 16

Kind: TypeAlias = Literal["file", "device", "pipe", "text", "memory", "closed"]


class Outlet:
    """One user's way to a place: the stream that it was given, what is behind that, and what was missed.

    Attributes:
        kind: a regular file; a terminal or other device; a pipe or socket; an object that may do anything in its
            ``write``; one that lives in memory; or a closed stream.
        identity: equal for two streams to the same place.
        missed: bytes that could not be written.
        is_broken: whether it is not tried any more.
        on_room: called from the writing thread when the place takes more again.
    """

    def __init__(self, stream: TextIO, on_room: Callable[[], None] | None = None) -> None:
        self.stream = stream
        self.on_room = on_room
        self.missed = 0
        self.is_broken = False
        self.identity: tuple[Hashable, ...] = (id(stream),)
        self.kind: Kind = self._look()

    @property
    def fd(self) -> int:
        """The stream's descriptor, asked for each time: the number of a closed one may be another file's by now."""
        return self.stream.fileno()

    def _look(self) -> Kind:
        try:
            about = os.fstat(self.fd)
        except Exception:  # the stream may be any object
            if getattr(self.stream, "closed", False):
                return "closed"
            return "memory" if isinstance(self.stream, io.StringIO | io.TextIOWrapper) else "text"
        if not isinstance(self.stream, io.TextIOWrapper):
            return "text"  # it may do more in its write than its descriptor shows
        self.identity = (about.st_dev, about.st_ino)
        if stat.S_ISREG(about.st_mode):
            return "file"
        return "device" if stat.S_ISCHR(about.st_mode) else "pipe"

    def flush(self) -> None:
        """Let what the host has printed go first."""
        try:
            self.stream.flush()
        except Exception:
            pass  # its own trouble; it will hear of it

    def unit(self, data: bytes, at: int) -> bytes:
        """What is written next, of data that is written up to ``at``: as many whole lines as the place takes at once,
        or one long line, or a part of one if it is longer than the pipe. A thread that is held in a write has the lock
        of the host's buffer, and the interpreter aborts at its end if somebody has that."""
        size = _TEXT_UNIT if self.kind == "text" else PIPE_ATOMIC
        whole = len(data)
        if self.kind == "pipe":
            # The host's other stream may be on the same pipe, under a lock of its own: a page is left for what it
            # prints in between, since a write that finds too little room is one that others can tear.
            whole = max(size, capacity(self.fd) - PIPE_ATOMIC)
            if len(data) - at > size and empties(self.fd, patience=0.005):
                size = whole
        if at == 0 and len(data) <= size:
            return data
        end = data.rfind(b"\n", at, at + size) + 1 or data.find(b"\n", at) + 1 or len(data)
        return data[at : end if end - at <= whole else at + PIPE_ATOMIC]

    def has_room(self, size: int) -> bool:
        """Whether so much can be written now without blocking; waits a moment for that."""
        if self.kind == "text":
            return True
        if not has_room(self.fd, 1, patience=0.1):
            return False
        self.flush()  # what the host has printed goes first, and may fill the pipe
        return has_room(self.fd, size, patience=0.1)

    def write(self, data: bytes, is_wanted: Callable[[], bool]) -> None:
        """Write all of it, or raise. Only a pipe is written through the host's buffer, whose lock keeps lines whole
        where the kernel does not; elsewhere nothing of ours may stay in that buffer when it fails."""
        if self.kind == "pipe":
            self._write_bytes(self.stream.buffer.write, data, is_wanted)
            self._write_bytes(lambda _: self.stream.buffer.flush(), b"", is_wanted)
        elif self.kind in ("file", "device"):
            self._write_bytes(lambda part: os.write(self.fd, part), data, is_wanted)
        else:
            self.stream.write(data.decode("utf-8", "replace"))
            self.stream.flush()

    def _write_bytes(self, put: Callable[[memoryview], int | None], data: bytes, is_wanted: Callable[[], bool]) -> None:
        """Write on where less was taken, also to a descriptor that somebody has made non-blocking."""
        view = memoryview(data)
        while True:
            try:
                taken = put(view) or 0
            except BlockingIOError as error:
                taken = getattr(error, "characters_written", 0)
                if not is_wanted():
                    raise
                has_room(self.fd, 1, patience=0.1)
                if not view:
                    continue
            view = view[taken:]
            if not view:
                return
