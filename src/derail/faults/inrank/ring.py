"""Layout of the ring file in which a rank keeps its last collectives, and the writer of it.

The file is mapped into the rank's memory. What the rank has written stays readable for the launcher after SIGKILL,
while the rank is stopped, and while it holds the GIL. ``derail.diagnose.rings`` reads it.

A record begins and ends with its number. The writer sets the first number to 0, writes the rest, and sets the first
number last: a record with two different numbers is incomplete.
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

MAGIC = b"DERAILRB"
VERSION = 1
CAPACITY = 128
"""Records in a file; a power of two."""

HEADER = struct.Struct("<8sIIIiIIId")
"""Magic, version, records, bytes of a record, rank, pid, world size, attempt, monotonic seconds of the creation."""
START = 64
"""Offset of the first record."""

RECORD = struct.Struct("<QQdddiIH6x24s40s24s48s88s128s48s48sQ")
"""Number, place in its group, seconds of entry, of the start of a wait, and of the end; peer, line, flags; operation,
group, its label, its ranks, shapes, file, function, subject; the number again."""
RECORD_BYTES = RECORD.size
BEGIN = struct.Struct("<Q")
SECONDS = struct.Struct("<d")
FLAGS = struct.Struct("<H")
AT_WAITED, AT_LEFT, AT_FLAGS = 24, 32, 48
"""Offsets in a record of the fields that are written later."""

ASYNC, RAISED, COMPARED, TO_PEER, STORE = 1, 2, 4, 8, 16
"""Flags: it returned before it was complete; it raised; its shapes must be equal in all ranks; it concerns only one
other rank; it waits for a key in a store."""

LONGEST_RANKS = 48
"""Bytes of the text of the ranks of a group."""
STORE_SLOT = START + CAPACITY * RECORD.size
"""Offset of one more record, for the last wait for a key in a store: programs that poll would fill the ring."""
ALWAYS = 1 << 62
"""Number of a record that no other replaces."""
SIZE = STORE_SLOT + RECORD.size


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
    """Collective about to be called, in the form in which it is recorded."""

    __slots__ = ("flags", "group", "label", "operation", "peer", "ranks", "shapes", "subject")

    def __init__(  # noqa: PLR0917 - keywords would cost a tenth of a record
        self,
        operation: bytes,
        group: bytes = b"",
        label: bytes = b"",
        ranks: bytes = b"",
        shapes: bytes = b"",
        peer: int = -1,
        flags: int = 0,
        subject: bytes = b"",
    ) -> None:
        self.operation = operation
        self.group = group
        self.label = label
        self.ranks = ranks
        self.shapes = shapes
        self.peer = peer
        self.flags = flags
        self.subject = subject


def _fill(fd: int, path: str) -> None:
    """Write the whole file: a write to mapped memory without space behind it would kill the rank by SIGBUS."""
    if os.write(fd, bytes(SIZE)) != SIZE:
        raise OSError(errno.ENOSPC, "no space for the ring file", path)


class RingWriter:
    """Ring file of this process. Not safe for free-threaded Python: two threads may then share a record.

    Attributes:
        path: the file.
        pid: this process; a forked child has the memory in common with it, and must not write.
    """

    def __init__(self, directory: str, rank: int, *, world: int, attempt: int) -> None:
        self.pid = os.getpid()
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

    def enter(self, call: Call, file: bytes, line: int, function: bytes) -> tuple[int, int]:
        """Record that a collective is called; return the number of the record and its offset, for ``leave``."""
        number = self._number = self._number + 1
        stream = (call.group, call.operation, call.peer) if call.flags & TO_PEER else call.group
        place = self._places[stream] = self._places.get(stream, 0) + 1
        offset = START + (number - 1) % CAPACITY * RECORD_BYTES
        self._write(call, file, line, function, number, place, offset)
        return number, offset

    def enter_store(self, call: Call, file: bytes, line: int, function: bytes) -> tuple[int, int]:
        """Record that the program waits for a key in a store."""
        self._write(call, file, line, function, self._number + 1, 0, STORE_SLOT)
        return ALWAYS, STORE_SLOT

    def _write(self, call: Call, file: bytes, line: int, function: bytes, number: int, place: int, offset: int) -> None:
        RECORD.pack_into(
            self._memory, offset, 0, place, monotonic(), 0.0, 0.0, call.peer, line, call.flags, call.operation,
            call.group, call.label, call.ranks, call.shapes, file, function, call.subject, number,
        )  # fmt: skip
        BEGIN.pack_into(self._memory, offset, number)

    def leave(self, ticket: tuple[int, int], flags: int) -> None:
        """Record that a collective has ended, with all its flags."""
        number, offset = ticket
        if self._number - number < CAPACITY:  # else another collective has its record by now
            FLAGS.pack_into(self._memory, offset + AT_FLAGS, flags)
            SECONDS.pack_into(self._memory, offset + AT_LEFT, monotonic())

    def close(self) -> None:
        """Give up the map of the file in this process; nothing can be recorded any more. The file stays."""
        self._memory.close()

    def wait(self, ticket: tuple[int, int]) -> None:
        """Record that the program waits for a collective that it has issued."""
        number, offset = ticket
        if self._number - number < CAPACITY:
            SECONDS.pack_into(self._memory, offset + AT_WAITED, monotonic())
