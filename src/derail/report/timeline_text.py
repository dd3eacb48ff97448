"""Timeline as plain text: a chart of the lanes of interest, then the events, one in each line."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from derail.errors.text import neutral
from derail.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from derail.report.lanes import Lane, MarkKind, Timeline

SHOWN_LANES = 16
"""Maximum number of lanes in the chart; of more, those of interest."""
SHOWN_EVENTS = 60  # lines of events
LEAST_COLUMNS = 20  # columns of the chart
BANDS = {"alive": "-", "starting": ".", "running": "=", "stopping": "s", "killing": "k", "fault": "!"}
MARKS: dict[MarkKind, str] = {
    "line": "*",
    "value": "v",
    "signal": "T",
    "stop": "S",
    "deadline": "D",
    "exit": "#",
    "left": "L",
}
"""Letters of marks; a later one covers an earlier one in the same column."""
LEGEND = "- lives  ! fault  * line that triggered one  T signal from the launcher  # end"


def render_timeline(timeline: Timeline, *, width: int = 100) -> str:
    """Return chart and events, ending with a newline; empty without events. No control characters from ranks."""
    if not timeline.seconds:
        return ""
    return neutral("\n".join([*_chart(timeline, width), *events(timeline)]) + "\n")


def _chart(timeline: Timeline, width: int) -> Iterator[str]:
    shown = shown_lanes(timeline)
    names = max(len(lane.name) for lane in shown)
    fates = max(len(lane.fate) for lane in shown)
    columns = max(LEAST_COLUMNS, width - names - fates - 4)
    end = f"{timeline.seconds:.2f} s"
    yield f"{'':<{names}}  0{end:>{columns - 1}}"
    for lane in shown:
        yield f"{lane.name:<{names}}  {_drawn(lane, timeline.seconds, columns)}  {printable(lane.fate)}".rstrip()
    for fate, lanes in _hidden(timeline, shown).items():
        yield f"{'':<{names}}  and {len(lanes)} more ranks: {printable(fate) or 'end unknown'}"
    yield f"{'':<{names}}  {LEGEND}"


def shown_lanes(timeline: Timeline, most: int = SHOWN_LANES) -> list[Lane]:
    """Return all lanes; of many, those of interest and the first of the others."""
    first = [lane for lane in timeline.lanes if lane.telling][:most]
    others = [lane for lane in timeline.lanes if lane not in first][: max(0, most - len(first))]
    return [lane for lane in timeline.lanes if lane in first or lane in others]


def _hidden(timeline: Timeline, shown: Sequence[Lane]) -> dict[str, list[Lane]]:
    hidden: dict[str, list[Lane]] = {}
    for lane in timeline.lanes:
        if lane not in shown:
            hidden.setdefault(lane.fate, []).append(lane)
    return hidden


def _drawn(lane: Lane, seconds: float, columns: int) -> str:
    drawn = [" "] * columns

    def column(at: float) -> int:
        return min(columns - 1, int(at / seconds * columns))

    for band in lane.bands:
        for place in range(column(band.begin), column(band.end) + 1):
            drawn[place] = BANDS[band.kind]
    for kind, letter in MARKS.items():
        for mark in lane.marks:
            if mark.kind == kind:
                drawn[column(mark.at)] = letter
    for band in lane.bands:
        begin, end = column(band.begin), column(band.end)
        if band.kind == "fault" and BANDS["fault"] not in drawn[begin : end + 1]:
            drawn[max(0, begin - 1)] = BANDS["fault"]  # so short that its consequences cover it
    return "".join(drawn)


def events(timeline: Timeline) -> Iterator[str]:
    """Yield the events in order, one in each line."""
    happened = sorted(
        [(mark.at, mark.text, lane) for lane in timeline.lanes for mark in lane.marks]
        + [(band.begin, band.text, lane) for lane in timeline.lanes for band in lane.bands if lane.rank is None],
        key=lambda event: event[0],
    )
    lines = [
        f"{group[0][0]:8.3f} s  {_names([lane for _, _, lane in group])} {printable(_plural(group[0][1], len(group)))}"
        for group in _together(happened)
    ]
    if len(lines) > SHOWN_EVENTS:
        half = SHOWN_EVENTS // 2
        lines = [*lines[:half], f"{'':>8}    ... {len(lines) - SHOWN_EVENTS} more ...", *lines[-half:]]
    yield from lines


def _together(happened: Sequence[tuple[float, str, Lane]]) -> Iterator[list[tuple[float, str, Lane]]]:
    """Group consecutive events of several ranks with the same text, apart from pids, so that they share a line."""
    for _, group in groupby(happened, key=lambda event: (event[1].partition(" (pid ")[0], event[2].rank is None)):
        yield list(group)


def _plural(text: str, count: int) -> str:
    return text if count == 1 else text.partition(" (pid ")[0]


def _names(lanes: Sequence[Lane]) -> str:
    names = list(dict.fromkeys(lane.name for lane in lanes))
    if len(names) == 1:
        return f"{names[0]}:"
    ranks = sorted(lane.rank for lane in lanes if lane.rank is not None)
    return f"ranks {spans(ranks)}:"


def spans(ranks: Sequence[int]) -> str:
    """Return ascending numbers as ranges: ``0-2, 5``."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and rank == parts[-1][-1] + 1:
            parts[-1].append(rank)
        elif not parts or rank != parts[-1][-1]:
            parts.append([rank])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
