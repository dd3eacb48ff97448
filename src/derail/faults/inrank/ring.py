"""Layout of the ring file in which a rank keeps its last collectives, and the writer of it.

The file is mapped into the rank's memory. What the rank has written stays readable for the launcher after SIGKILL,
while the rank is stopped, and while it holds the GIL. ``derail.diagnose.rings`` reads it.

A record begins and ends with its number. The writer sets the first number to 0, writes the rest, and sets the first
number last: a record with two different numbers is incomplete.

The reasons are in docs/adr/ring-files.md.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import sys

from .real_time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

MAGIC = b"DERAILRB"
VERSION = 1
CAPACITY = 128
"""Records in a file; a power of two."""

HEADER = struct.Struct("<8sIIIiIIId")
"""Magic, version, records, bytes of a record, rank, pid, world size, attempt, monotonic seconds of the creation."""
START = 64
"""Offset of the first record."""

NUMBERS = struct.Struct("<QQdddiIH6x")
"""First part of a record: its number, place in its group, seconds of entry, of the start of a wait, and of the end;
peer, line, flags."""
TEXTS = struct.Struct("<24s40s24s48s88s48s48s128s")
"""Second part: operation, group, its label, its ranks, shapes, subject, function, file."""
NUMBER = struct.Struct("<Q")
"""Third part: the number again."""
AT_TEXTS, AT_END = NUMBERS.size, NUMBERS.size + TEXTS.size
RECORD_BYTES = AT_END + NUMBER.size
SECONDS = struct.Struct("<d")
FLAGS = struct.Struct("<H")
AT_WAITED, AT_LEFT, AT_FLAGS = 24, 32, 48
"""Offsets in a record of the fields that are written later."""

ASYNC, RAISED, COMPARED, TO_PEER, STORE = 1, 2, 4, 8, 16
"""Flags: it returned before it was complete; it raised; its shapes must be equal in all ranks; it concerns only one
other rank; it waits for a key in a store."""

LONGEST_RANKS = 48
"""Bytes of the text of the ranks of a group."""
STORE_SLOT = START + CAPACITY * RECORD_BYTES
"""Offset of one more record, for the last wait for a key in a store: programs that poll would fill the ring."""
ALWAYS = 1 << 62
"""Number of a record that no other replaces."""
SIZE = STORE_SLOT + RECORD_BYTES


def ring_name(rank: int, pid: int) -> str:
    """Return the name of a rank's ring file."""
    return f"rank-{rank}.{pid}.ring"


def as_ranges(ranks: Iterable[int]) -> bytes:
    """Return ranks as text: ``0-3,6``. Text that does not fit ends with ``...``."""
    parts: list[str] = []
    first = last = -2
    for rank in (*sorted(ranks), None):
        if rank is not None and rank == last + 1:
            last = rank
            continue
        if first >= 0:
            parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = -2 if rank is None else rank
    text = ",".join(parts).encode()
    return text if len(text) <= LONGEST_RANKS else text[: LONGEST_RANKS - 3] + b"..."


class Call:
    """Collective, in the form in which it is recorded each time that it is called. It is made once, and not changed."""

    __slots__ = ("_sites", "_words", "flags", "peer", "stream")

    def __init__(
        self,
        operation: str,
        group: str = "",
        *,
        label: str = "",
        ranks: bytes = b"",
        shapes: str = "",
        peer: int = -1,
        flags: int = 0,
        subject: str = "",
    ) -> None:
        self.peer = peer
        self.flags = flags
        self.stream = (group, operation, peer) if flags & TO_PEER else group
        """What its place is counted in."""
        words = (operation, group, label)
        texts = [word.encode(errors="replace") for word in (*words, shapes, subject)]
        self._words = (*texts[:3], ranks, *texts[3:])
        self._sites: dict[int, tuple[CodeType, bytes]] = {}

    def texts(self, code: CodeType) -> bytes:
        """Return the second part of its records, for calls in this code."""
        known = self._sites.get(id(code))
        if known is None:
            if len(self._sites) >= MOST_SITES:
                self._sites.clear()
            file, function = os.fsencode(code.co_filename)[-128:], code.co_name.encode(errors="replace")
            known = self._sites[id(code)] = (code, TEXTS.pack(*self._words, function, file))  # the code keeps its id
        return known[1]


MOST_SITES = 256
"""Places from which a call is recorded, of which the texts are kept."""


def _fill(fd: int, path: str) -> None:
    """Write the whole file: a write to mapped memory without space behind it would kill the rank by SIGBUS."""
    if os.write(fd, bytes(SIZE)) != SIZE:
        raise OSError(errno.ENOSPC, "no space for the ring file", path)


class RingWriter:
    """Ring file of this process. Not safe for free-threaded Python: two threads may then share a record.

    Attributes:
        path: the file.
        directory: its directory.
        pid: this process; a forked child has the memory in common with it, and must not write.
    """

    def __init__(self, directory: str, rank: int, *, world: int, attempt: int) -> None:
        self.pid = os.getpid()
        self.directory = directory
        self.path = os.path.join(directory, ring_name(rank, self.pid))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        if os.path.lexists(self.path):
            os.unlink(self.path)  # of this process before an exec, or of one that had its pid before it
        fd = os.open(self.path, flags, 0o600)
        try:
            _fill(fd, self.path)
            # Before Python 3.13 the map keeps a copy of the descriptor.
            self._memory = mmap.mmap(fd, SIZE, **({"trackfd": False} if sys.version_info >= (3, 13) else {}))
        except BaseException:
            os.unlink(self.path)
            raise
        finally:
            os.close(fd)
        self._number = 0
        self._places: dict[object, int] = {}
        HEADER.pack_into(
            self._memory, 0, MAGIC, VERSION, CAPACITY, RECORD_BYTES, rank, self.pid, world, attempt, monotonic()
        )

    def enter(self, call: Call, texts: bytes, line: int) -> tuple[int, int]:
        """Record that a collective is called; return the number of the record and its offset, for ``leave``."""
        if call.flags & STORE:
            number, place, offset = self._number + 1, 0, STORE_SLOT
        else:
            number = self._number = self._number + 1
            place = self._places[call.stream] = self._places.get(call.stream, 0) + 1
            offset = START + (number - 1) % CAPACITY * RECORD_BYTES
        memory = self._memory
        NUMBERS.pack_into(memory, offset, 0, place, monotonic(), 0.0, 0.0, call.peer, line, call.flags)
        memory[offset + AT_TEXTS : offset + AT_END] = texts
        NUMBER.pack_into(memory, offset + AT_END, number)
        NUMBER.pack_into(memory, offset, number)
        return (ALWAYS if call.flags & STORE else number), offset

    def leave(self, ticket: tuple[int, int], raised: int) -> None:
        """Record that a collective has ended; ``raised`` is its flags if it has raised an exception, else 0."""
        number, offset = ticket
        if self._number - number < CAPACITY:  # else another collective has its record by now
            if raised:
                FLAGS.pack_into(self._memory, offset + AT_FLAGS, raised | RAISED)
            SECONDS.pack_into(self._memory, offset + AT_LEFT, monotonic())

    def close(self) -> None:
        """Give up the map of the file in this process; nothing can be recorded any more. The file stays."""
        self._memory.close()

    def wait(self, ticket: tuple[int, int]) -> None:
        """Record that the program waits for a collective that it has issued."""
        number, offset = ticket
        if self._number - number < CAPACITY:
            SECONDS.pack_into(self._memory, offset + AT_WAITED, monotonic())
