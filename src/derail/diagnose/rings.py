"""Reader of the ring files in which ranks keep their last collectives (``derail.faults.inrank.ring``).

It is total: whatever a file contains, and whatever the path leads to, it returns in bounded time and memory.
"""

from __future__ import annotations

import math
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from derail.faults.inrank import ring as layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
NAME = re.compile(r"rank-(\d{1,9})\.(\d{1,9})\.ring")
MOST_FILES = 4096
"""Files in a directory that are read."""
MOST_RANKS = 1 << 16
"""Ranks of a group that are listed."""


@dataclass(frozen=True, slots=True)
class Collective:
    """Collective that a rank has called.

    Attributes:
        number: its place among all collectives of the rank.
        place: its place among those of its group; of the calls to one peer, among these.
        operation: name of the function.
        group: name of the group, the same in all ranks.
        label: name of the group for display; empty for the group of all ranks.
        ranks: the ranks of the group; None if unknown.
        shapes: the exchanged tensors: ``float32[1024]``.
        compared: whether the shapes must be equal in all ranks.
        peer: the other rank of a call to one peer; None for calls of a whole group, or if unknown.
        to_peer: whether it concerns one peer.
        of_store: whether it waits for a key in a store.
        subject: the key.
        file: source file of the call.
        line: its line.
        function: the calling function.
        entered: monotonic seconds of the call.
        waited: monotonic seconds at which the program began to wait for it, if it was issued before; else None.
        left: monotonic seconds of its end; None if it has not ended.
        is_async: whether it returned before it was complete.
        raised: whether it raised an exception.
    """

    number: int
    place: int
    operation: str
    group: str
    label: str = ""
    ranks: frozenset[int] | None = None
    shapes: str = ""
    compared: bool = False
    peer: int | None = None
    to_peer: bool = False
    of_store: bool = False
    subject: str = ""
    file: str = ""
    line: int = 0
    function: str = ""
    entered: float = 0.0
    waited: float | None = None
    left: float | None = None
    is_async: bool = False
    raised: bool = False

    @property
    def blocks(self) -> bool:
        """Whether the program waits in it."""
        return self.left is None and (not self.is_async or self.waited is not None)

    def moved(self, seconds: float) -> Collective:
        """Return it with all times moved."""
        waited, left = (None if time is None else time + seconds for time in (self.waited, self.left))
        return replace(self, entered=self.entered + seconds, waited=waited, left=left)


@dataclass(frozen=True, slots=True)
class Ring:
    """Content of a ring file.

    Attributes:
        rank: the rank that has written it.
        pid: its process.
        world: number of ranks of the job; 0 if unknown.
        attempt: number of restarts before it was started.
        started: monotonic seconds of its creation.
        calls: the last collectives, oldest first.
        store: the last wait for a key in a store; None if there was none.
        torn: number of records that were not complete.
    """

    rank: int
    pid: int
    world: int = 0
    attempt: int = 0
    started: float = 0.0
    calls: tuple[Collective, ...] = ()
    store: Collective | None = None
    torn: int = 0

    @property
    def blocking(self) -> Collective | None:
        """The collective, or the wait for a key, in which the rank is; of several, the one that it entered last."""
        inside = [call for call in (*self.calls, *([self.store] if self.store else [])) if call.blocks]
        return max(inside, key=lambda call: call.waited or call.entered, default=None)

    def moved(self, seconds: float) -> Ring:
        """Return it with all times moved: those of another machine, which has another clock."""
        store = None if self.store is None else self.store.moved(seconds)
        calls = tuple(call.moved(seconds) for call in self.calls)
        return replace(self, started=self.started + seconds, calls=calls, store=store)


def read_ring(path: str | os.PathLike[str]) -> Ring | str:
    """Return the content of a ring file, or the reason why it cannot be used. Never raises, and never blocks."""
    try:
        fd = os.open(path, OPEN)
    except (OSError, ValueError) as error:
        return f"{os.fspath(path)}: {getattr(error, 'strerror', None) or error}"
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            return f"{os.fspath(path)}: is not a file"
        if about.st_uid != os.geteuid():
            return f"{os.fspath(path)}: belongs to user {about.st_uid}"
        # Twice: a record that its rank writes meanwhile differs in the first number.
        first, second = os.pread(fd, layout.SIZE, 0), os.pread(fd, layout.SIZE, 0)
    except OSError as error:
        return f"{os.fspath(path)}: {error.strerror}"
    finally:
        os.close(fd)
    return decode(first, second) or f"{os.fspath(path)}: is not a ring file of this version of derail"


def decode(data: bytes, again: bytes | None = None) -> Ring | None:
    """Return the ring in the bytes of a file, read once or twice; None if they are none."""
    if len(data) < layout.START:
        return None
    magic, version, capacity, size, rank, pid, world, attempt, started = layout.HEADER.unpack_from(data)
    if (magic, version, capacity, size) != (layout.MAGIC, layout.VERSION, layout.CAPACITY, layout.RECORD_BYTES):
        return None
    calls, torn = [], 0
    store = None
    for offset in range(layout.START, len(data) - size + 1, size):
        call = _record(data, again, offset)
        if call is None:
            torn += data[offset : offset + size] != bytes(size)
        elif offset == layout.STORE_SLOT:
            store = call
        else:
            calls.append(call)
    calls.sort(key=lambda call: call.number)
    return Ring(rank, pid, world, attempt, _seconds(started) or 0.0, tuple(calls), store, torn)


def read_rings(directory: Path, *, pids: dict[int, int] | None = None) -> dict[int, Ring]:
    """Return the rings in a directory by rank: of the last attempt, and there of the rank's process or the first one.

    Args:
        directory: where the ranks write.
        pids: the process of each rank, if known. It may be a shell that has started the rank's Python.
    """
    try:
        names = sorted(os.listdir(directory))[:MOST_FILES]
    except OSError:
        return {}
    rings = [ring for name in names if NAME.fullmatch(name) and isinstance(ring := read_ring(directory / name), Ring)]
    return choose(rings, pids or {})


def mapped_rings(pid: int) -> Iterator[Path]:
    """Yield the ring files that a process has mapped; none if that cannot be read."""
    with suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            path = Path(line.rstrip("\n").partition("/")[2])
            if NAME.fullmatch(path.name):
                yield Path("/") / path


def choose(rings: Iterable[Ring], pids: dict[int, int]) -> dict[int, Ring]:
    """Return one ring for each rank."""

    def preference(ring: Ring) -> tuple[bool, int, float]:
        return pids.get(ring.rank) == ring.pid, ring.attempt, -ring.started

    chosen: dict[int, Ring] = {}
    for ring in rings:
        if ring.rank not in chosen or preference(ring) > preference(chosen[ring.rank]):
            chosen[ring.rank] = ring
    return chosen


def _record(data: bytes, again: bytes | None, offset: int) -> Collective | None:
    """Return the record at an offset; None if it is empty or incomplete."""
    begin, place, entered, waited, left, peer, line, flags = layout.NUMBERS.unpack_from(data, offset)
    (end,) = layout.NUMBER.unpack_from(data, offset + layout.AT_END)
    if not begin or begin != end or (again is not None and data[offset : offset + 8] != again[offset : offset + 8]):
        return None
    texts = layout.TEXTS.unpack_from(data, offset + layout.AT_TEXTS)
    operation, group, label, ranks, shapes, subject, function, file = map(_text, texts)
    entry = _seconds(entered)
    if not operation or entry is None:
        return None
    return Collective(
        number=begin,
        place=place,
        operation=operation,
        group=group,
        label=label,
        ranks=parse_ranks(ranks),
        shapes=shapes,
        compared=bool(flags & layout.COMPARED),
        peer=peer if peer >= 0 else None,
        to_peer=bool(flags & layout.TO_PEER),
        of_store=bool(flags & layout.STORE),
        subject=subject,
        file=file,
        line=line,
        function=function,
        entered=entry,
        waited=_seconds(waited),
        left=_seconds(left),
        is_async=bool(flags & layout.ASYNC),
        raised=bool(flags & layout.RAISED),
    )


def parse_ranks(text: str) -> frozenset[int] | None:
    """Return the ranks in ``0-3,6``; None if the text is incomplete or no such list."""
    ranks: set[int] = set()
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        if match is None:
            return None
        first = int(match[1])
        last = int(match[2] or match[1])
        if last < first or len(ranks) + last - first >= MOST_RANKS:
            return None
        ranks.update(range(first, last + 1))
    return frozenset(ranks) or None


def _seconds(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="replace")
