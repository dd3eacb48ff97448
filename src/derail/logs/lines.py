r"""Assembly of bytes, cut anywhere, into whole lines, with a length limit, and without loss of a byte.

A line ends at ``\n`` and nowhere else: a progress bar that redraws itself by ``\r`` is one line. Bytes stay bytes;
invalid UTF-8 is replaced only in text.
"""

from __future__ import annotations

from dataclasses import dataclass

LINE_LIMIT = 4 << 20
"""Bytes of one line that are held in memory; a longer one is passed on in pieces of about this size."""


@dataclass(frozen=True, slots=True)
class Lines:
    r"""Consecutive lines of one stream, in one block for speed.

    Attributes:
        data: the lines, each with its ``\n``; only the last one may lack it.
        continues: the first of them continues a line of which a piece was passed on before.
        more: the last of them is incomplete: the next block continues it. If it lacks its ``\n`` and this is False,
            the stream has ended in the middle of a line.
    """

    data: bytes
    continues: bool = False
    more: bool = False

    def split(self) -> list[bytes]:
        """Return the lines without their line ends."""
        return self.data.removesuffix(b"\n").split(b"\n")

    def texts(self) -> list[str]:
        """Return the lines as text, without their line ends, with U+FFFD in place of invalid UTF-8."""
        return self.data.removesuffix(b"\n").decode("utf-8", "replace").split("\n")

    def prefixed(self, prefix: bytes) -> bytes:
        """Return the lines with ``prefix`` before each, and a line end after the last unless it will continue."""
        whole = self.data.endswith(b"\n")
        body = (self.data[:-1] if whole else self.data).replace(b"\n", b"\n" + prefix) if prefix else self.data
        start = b"" if self.continues else prefix
        end = b"" if self.more or (whole and not prefix) else b"\n"
        return b"".join((start, body, end))


def shown(line: str) -> str:
    """Return what a terminal finally shows of a line: the last redraw of a progress bar."""
    return line.rstrip("\r").rpartition("\r")[2]


class LineAssembler:
    """An assembler of read data into whole lines.

    The concatenation of all ``data`` that it returns is the concatenation of all bytes fed to it.
    """

    __slots__ = ("_held", "_limit", "_open")

    def __init__(self, *, limit: int = LINE_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"a line limit of {limit} bytes leaves no room for a line; give 1 or more")
        self._limit = limit
        self._held = bytearray()
        self._open = False

    @property
    def pending(self) -> int:
        """Bytes of the unfinished line that are held back."""
        return len(self._held)

    @property
    def limit(self) -> int:
        """Bytes that are held back at most."""
        return self._limit

    @property
    def open(self) -> bool:
        """Whether a piece of the unfinished line has been passed on already."""
        return self._open

    def feed(self, data: bytes) -> list[Lines]:
        """Add read data; return the lines that are complete now, and pieces of one beyond the limit."""
        blocks = []
        end = data.rfind(b"\n") + 1
        if end:
            blocks.append(self._take(data[:end], more=False))
            data = data[end:]
        self._held += data
        while len(self._held) > self._limit:
            cut = _character_start(self._held, self._limit)
            rest = bytes(self._held[cut:])
            del self._held[cut:]
            blocks.append(self._take(more=True))
            self._held += rest
        return blocks

    def give_open(self) -> list[Lines]:
        """Return the present part of the unfinished line: its writer waits for an answer to it."""
        return [self._take(more=True)] if self._held else []

    def finish(self) -> Lines | None:
        """Return a last line without a line end, if there is one: the stream has ended."""
        return self._take(more=False) if self._held or self._open else None

    def _take(self, data: bytes = b"", *, more: bool) -> Lines:
        block = Lines(bytes(self._held) + data if self._held else data, continues=self._open, more=more)
        self._held.clear()
        self._open = more
        return block


def _character_start(data: bytearray, at: int) -> int:
    """Return the nearest index at or before ``at`` that splits no UTF-8 character; ``at`` if it is not UTF-8."""
    for back in range(min(4, at)):
        if data[at - back] & 0xC0 != 0x80:
            return at - back
    return at
