"""Timelines as a trace in Chrome's trace event format, which Perfetto and chrome://tracing open.

A trace has a process for each run, in it a thread for the launcher and one for each rank: spans for phases, lives and
faults; instants for signals, exits and lines. Times have the base of a trace of torch.profiler, so that the events of
both can be put into one file: ``baseTimeNanoseconds`` plus ``ts`` microseconds is the wall clock.
"""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

from derail.report.timeline import AGENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from derail.report.lanes import Band, Lane, Timeline

Event: TypeAlias = "dict[str, Any]"

BASE_PERIOD_S = 7_889_238
"""Seconds between two of the times that torch.profiler chooses as a base: a quarter of a Gregorian year."""
FIRST_NUMBER = 2**22 + 1
"""First number of a process and a thread in a trace: above every process number of Linux, so that none is of a rank
whose own trace is put beside this one."""
CATEGORIES = {
    "alive": "rank",
    "fault": "fault",
    "starting": "phase",
    "running": "phase",
    "stopping": "phase",
    "killing": "phase",
}
"""Category of a span, by its kind."""


def render_trace(runs: Iterable[tuple[str, Timeline]]) -> bytes:
    """Return the runs, each with its name, as a JSON trace.

    A run without a known wall-clock time begins with the earliest one.
    """
    listed = list(runs)
    earliest = min((run.wall for _, run in listed if run.wall), default=0.0)
    base_s = int(earliest // BASE_PERIOD_S) * BASE_PERIOD_S
    numbers = count(FIRST_NUMBER)
    events = [
        event
        for place, (name, run) in enumerate(listed)
        for event in _of_run(name, run, place, begin_ns=_nanoseconds((run.wall or earliest) - base_s), numbers=numbers)
    ]
    trace = {
        "displayTimeUnit": "ms",
        "baseTimeNanoseconds": base_s * 10**9,
        "traceEvents": events,
    }
    return (json.dumps(trace, indent=1, allow_nan=False) + "\n").encode()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _of_run(name: str, run: Timeline, place: int, *, begin_ns: int, numbers: Iterator[int]) -> Iterator[Event]:
    pid = next(numbers)
    yield _about(pid, pid, "process_name", name=f"derail: {name}" if name else "derail")
    yield _about(pid, pid, "process_sort_index", sort_index=place)
    tracks = [track for lane in run.lanes for track in _tracks(lane)]
    for order, (title, lane, bands, is_first) in enumerate(tracks):
        tid = pid if order == 0 else next(numbers)
        yield _about(pid, tid, "thread_name", name=title)
        yield _about(pid, tid, "thread_sort_index", sort_index=order)
        who: Event = {"pid": pid, "tid": tid}
        for band in bands:
            begin, end = _nanoseconds(band.begin), _nanoseconds(max(band.begin, band.end))
            args = {"result": band.result} if band.result else {}
            if band.kind == "alive" and lane.fate:
                args = {"ended": lane.fate}
            yield {
                "name": band.text or band.kind,
                "cat": CATEGORIES[band.kind],
                "ph": "X",
                "ts": (begin_ns + begin) / 1000,
                "dur": (end - begin) / 1000,
                **who,
                "args": args,
            }
        for mark in lane.marks if is_first else ():
            at = (begin_ns + _nanoseconds(mark.at)) / 1000
            yield {"name": mark.text, "cat": mark.kind, "ph": "i", "ts": at, "s": "t", **who, "args": {}}


def _about(pid: int, tid: int, field: str, **args: object) -> Event:
    """Return a metadata event about a process or a thread."""
    return {"name": field, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": args}


def _tracks(lane: Lane) -> Iterator[tuple[str, Lane, Sequence[Band], bool]]:
    """Yield the tracks of a lane: its own, and one more for each fault that overlaps without being nested.

    Spans of one thread must be nested or apart, else a viewer drops or cuts one of them.
    """
    rows: list[list[Band]] = [[]]
    for band in sorted(lane.bands, key=lambda band: (band.begin, -band.end)):
        row = next((row for row in rows if all(_fits(band, other) for other in row)), None)
        if row is None:
            rows.append([band])
        else:
            row.append(band)
    title = "launcher" if lane.name == AGENT else lane.name or "?"
    for number, row in enumerate(rows):
        yield (title if number == 0 else f"{title} ({number + 1})", lane, row, number == 0)


def _fits(band: Band, other: Band) -> bool:
    """Return whether a span can be drawn on one track with another one that does not begin later."""
    return other.end <= band.begin or band.end <= other.end
