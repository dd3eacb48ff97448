"""Reader of what torch's own flight recorder holds in the ranks, and its merge into their rings.

Ranks write it on request (``derail.faults.inrank.hooks.torch_trace``). Only calls that a ring does not have are added:
those that C++ or compiled code makes. They are counted by torch, in groups of their own.
"""

from __future__ import annotations

import json
import math
import os
import stat
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from derail.diagnose.rings import OPEN, Collective
from derail.faults.inrank.hooks.torch_trace import VERSION, trace_names
from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from derail.diagnose.rings import Ring

MOST_BYTES = 1 << 20
"""Bytes of an answer that are read."""
LOOK_S = 0.01
"""Seconds between two looks for answers."""
TOLERANCE_S = 0.0005
"""Seconds by which the wall clock and the monotonic one may drift apart while a job runs."""
COARSE = "DDP "
"""Beginning of the operations of a ring that stand for several calls in C++."""


def ask(rings: Path, found: Mapping[int, Ring]) -> set[int]:
    """Ask ranks for what torch's recorder holds; return those that have a thread to answer."""
    asked = set()
    for rank, ring in found.items():
        fifo, answer = (rings / name for name in trace_names(rank, ring.pid))
        with suppress(OSError):
            answer.unlink()
        with suppress(OSError):
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if stat.S_ISFIFO(os.fstat(fd).st_mode):
                    asked.add(rank)
            finally:
                os.close(fd)
    return asked


def merged(
    rings: Path, found: Mapping[int, Ring], asked: Collection[int], *, patience: float, among: Collection[int]
) -> dict[int, Ring]:
    """Return the rings with what torch's recorder has in addition; unchanged ones unless all ranks have answered.

    Without the calls of one rank, it would seem that this rank has not called what the others have.

    Args:
        rings: their directory.
        found: the rings.
        asked: the ranks that were asked.
        patience: maximum seconds to wait for the answers.
        among: all ranks of the job.
    """
    if not asked or set(among) - set(asked):
        return dict(found)
    paths = {rank: rings / trace_names(rank, found[rank].pid)[1] for rank in asked}
    pause, end = threading.Event(), SYSTEM_CLOCK.now() + patience
    while not all(path.exists() for path in paths.values()) and SYSTEM_CLOCK.now() < end:
        pause.wait(LOOK_S)
    traces = {rank: read_trace(path) for rank, path in paths.items()}
    whole = {rank: add(found[rank], trace) for rank, trace in traces.items() if trace is not None}
    return whole if len(whole) == len(traces) else dict(found)


def read_trace(path: str | os.PathLike[str]) -> tuple[Collective, ...] | None:
    """Return the calls in an answer, oldest first; None if it is none. Never raises, and never blocks."""
    try:
        fd = os.open(path, OPEN)
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_size > MOST_BYTES:
                return None
            content = json.loads(os.pread(fd, MOST_BYTES, 0))
        finally:
            os.close(fd)
        if content["version"] != VERSION:
            return None
        offset = _time(content["offset"])
        calls = [_call(each, offset) for each in content["entries"] if each["to_peer"] is False]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    return tuple(sorted(calls, key=lambda call: call.number))


def add(ring: Ring, trace: tuple[Collective, ...]) -> Ring:
    """Return a ring with the calls of a trace that it does not have."""
    lost = bool(ring.calls) and ring.calls[0].number > 1
    since = ring.calls[0].entered if lost else 0.0
    known = _represented(ring, trace)
    own = [call for call in trace if call.number not in known and call.entered >= since]
    if not own:
        return ring
    first = 1 + (lost or trace[0].number > 1)  # a reader knows by it that calls have been overwritten
    calls = sorted([*ring.calls, *own], key=lambda call: call.entered)
    return replace(ring, calls=tuple(replace(call, number=first + place) for place, call in enumerate(calls)))


def _represented(ring: Ring, trace: tuple[Collective, ...]) -> set[int]:
    """Return the numbers of the calls in a trace that the ring has: those made while the program was in such a call."""
    known: set[int] = set()
    for call in ring.calls:
        if call.operation.startswith(COARSE):
            continue
        left = math.inf if call.left is None else call.left + TOLERANCE_S
        inside = [
            each.number
            for each in trace
            if each.number not in known
            and call.group.partition(":")[2] == each.group.partition(":")[2]
            and call.entered - TOLERANCE_S <= each.entered <= left
        ]
        known.update(inside[:1] if call.is_async else inside)
    return known


def _call(each: Mapping[str, object], offset: float) -> Collective:
    entered, ranks = _time(each["created"]) - offset, each["ranks"]
    members = [int(rank) for rank in ranks] if isinstance(ranks, list) else []
    return Collective(
        number=_natural(each["number"]) + 1,
        place=_natural(each["place"]),
        operation=f"C++ {str(each['operation'])[:64]}",
        group=f"c++:{str(each['group'])[:64]}",
        label=str(each["label"])[:64],
        ranks=frozenset(members) or None,
        shapes=str(each["shapes"])[:128],
        file=str(each["file"])[:512],
        line=_natural(each["line"]),
        function=str(each["function"])[:128],
        entered=entered,
        left=entered if each["done"] is True else None,
    )


def _natural(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise ValueError(f"expected a number, got {value!r:.40}")
    return value


def _time(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected seconds, got {value!r:.40}")
    return float(value)
