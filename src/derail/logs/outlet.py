"""An output stream: its kind, its identity, and writes to it that neither tear lines nor block.

Rejected ways: writing to the text stream from another thread (before 3.13 it loses concurrent output of the host,
CPython gh-119506); ``O_NONBLOCK`` on the descriptor (it is shared with the host, its shell and the ranks); writing to
a pipe beside the host's buffer (a nearly full pipe then tears the host's lines by derail's).
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
    """One user's access to a destination: its stream, the destination's kind, and the missed bytes.

    Attributes:
        kind: a regular file; a terminal or other device; a pipe or socket; an object with an arbitrary ``write``; one
            that is in memory; or a closed stream.
        identity: equal for two streams to the same destination.
        missed: bytes that could not be written.
        is_broken: whether writing was given up.
        on_room: called from the writing thread when the destination accepts more again.
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
        """The stream's descriptor, queried each time: the number of a closed one may be reused for another file."""
        return self.stream.fileno()

    def _look(self) -> Kind:
        try:
            about = os.fstat(self.fd)
        except Exception:  # the stream may be any object
            if getattr(self.stream, "closed", False):
                return "closed"
            return "memory" if isinstance(self.stream, io.StringIO | io.TextIOWrapper) else "text"
        if not isinstance(self.stream, io.TextIOWrapper):
            return "text"  # its write may do more than its descriptor shows
        self.identity = (about.st_dev, about.st_ino)
        if stat.S_ISREG(about.st_mode):
            return "file"
        return "device" if stat.S_ISCHR(about.st_mode) else "pipe"

    def flush(self) -> None:
        """Flush the host's own output first."""
        try:
            self.stream.flush()
        except Exception:
            pass  # the host gets the same error at its next write

    def unit(self, data: bytes, at: int) -> bytes:
        """Return the next part to write of data that is written up to ``at``.

        That is as many whole lines as the destination accepts at once, or one long line. Of a line longer than the
        pipe, it is a part. A thread blocked in a write holds the lock of the host's buffer, and the interpreter
        aborts at its exit if any thread holds that.
        """
        size = _TEXT_UNIT if self.kind == "text" else PIPE_ATOMIC
        whole = len(data)
        if self.kind == "pipe":
            # The host's other stream may be on the same pipe, with a separate lock. One page is left for its concurrent
            # output, because a write that finds too little room can be torn by other writers.
            whole = max(size, capacity(self.fd) - PIPE_ATOMIC)
            if len(data) - at > size and empties(self.fd, patience=0.005):
                size = whole
        if at == 0 and len(data) <= size:
            return data
        end = data.rfind(b"\n", at, at + size) + 1 or data.find(b"\n", at) + 1 or len(data)
        return data[at : end if end - at <= whole else at + PIPE_ATOMIC]

    def has_room(self, size: int) -> bool:
        """Return whether ``size`` bytes can be written without blocking; waits briefly for that."""
        if self.kind == "text":
            return True
        if not has_room(self.fd, 1, patience=0.1):
            return False
        self.flush()  # the host's own output goes first, and may fill the pipe
        return has_room(self.fd, size, patience=0.1)

    def write(self, data: bytes, is_wanted: Callable[[], bool]) -> None:
        """Write all data, or raise.

        Only a pipe is written through the host's buffer: its lock keeps lines whole where the kernel does not.
        Elsewhere none of derail's data may stay in that buffer after a failure.
        """
        if self.kind == "pipe":
            self._write_bytes(self.stream.buffer.write, data, is_wanted)
            self._write_bytes(lambda _: self.stream.buffer.flush(), b"", is_wanted)
        elif self.kind in ("file", "device"):
            self._write_bytes(lambda part: os.write(self.fd, part), data, is_wanted)
        else:
            self.stream.write(data.decode("utf-8", "replace"))
            self.stream.flush()

    def _write_bytes(self, put: Callable[[memoryview], int | None], data: bytes, is_wanted: Callable[[], bool]) -> None:
        """Continue after partial writes, also to a descriptor that other code has made non-blocking."""
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
