"""A strict reader of Chrome's trace event format, in its JSON object form, as Perfetto's importer takes it."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

KEYS = {
    "M": {"name", "ph", "ts", "pid", "tid", "args"},
    "X": {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"},
    "i": {"name", "cat", "ph", "ts", "s", "pid", "tid", "args"},
}
ABOUT = {
    "process_name": ("name", str),
    "thread_name": ("name", str),
    "process_sort_index": ("sort_index", int),
    "thread_sort_index": ("sort_index", int),
}


@dataclass
class Track:
    """Thread of a trace: its name, its spans and its instants, in the order of their times."""

    process: str = ""
    name: str = ""
    order: int = -1
    spans: list[dict[str, Any]] = field(default_factory=list)
    instants: list[dict[str, Any]] = field(default_factory=list)


def check_trace(data: bytes) -> list[Track]:
    """Return the tracks of a trace in display order; fail at any violation of the format."""
    trace = json.loads(data, parse_constant=lambda word: (_ for _ in ()).throw(ValueError(word)))
    assert set(trace) == {"displayTimeUnit", "baseTimeNanoseconds", "traceEvents"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert type(trace["baseTimeNanoseconds"]) is int
    processes: dict[int, dict[str, Any]] = defaultdict(dict)
    tracks: dict[tuple[int, int], Track] = defaultdict(Track)
    for event in trace["traceEvents"]:
        _check_event(event)
        track = tracks[event["pid"], event["tid"]]
        match event["ph"], event["name"]:
            case "M", ("process_name" | "process_sort_index") as what:
                assert what not in processes[event["pid"]], event
                processes[event["pid"]][what] = event["args"]
            case "M", "thread_name":
                assert track.name == "", event
                track.name = event["args"]["name"]
            case "M", "thread_sort_index":
                assert track.order == -1, event
                track.order = event["args"]["sort_index"]
            case "X", _:
                track.spans.append(event)
            case _:
                track.instants.append(event)
    for (pid, _), track in tracks.items():
        track.process = processes[pid]["process_name"]["name"]
        track.spans.sort(key=lambda span: (span["ts"], -span["dur"]))
        track.instants.sort(key=lambda instant: instant["ts"])
        _check_nesting(track.spans)
        assert track.name or not (track.spans or track.instants), track
    by_place = sorted(
        tracks, key=lambda key: (processes[key[0]]["process_sort_index"]["sort_index"], tracks[key].order)
    )
    return [tracks[key] for key in by_place if tracks[key].name]


def _check_event(event: dict[str, Any]) -> None:
    assert set(event) == KEYS[event["ph"]], event
    assert isinstance(event["name"], str), event
    assert isinstance(event["args"], dict), event
    assert all(type(event[number]) is int and 0 < event[number] < 2**32 for number in ("pid", "tid")), event
    assert all(type(event.get(time, 0)) in (int, float) and event.get(time, 0) >= 0 for time in ("ts", "dur")), event
    if event["ph"] == "M":
        key, kind = ABOUT[event["name"]]
        assert set(event["args"]) == {key}, event
        assert type(event["args"][key]) is kind, event
    else:
        assert isinstance(event["cat"], str), event
        assert event["cat"], event
    assert event.get("s", "t") in ("t", "p", "g"), event


def _check_nesting(spans: list[dict[str, Any]]) -> None:
    """Check that the spans of one thread are nested or apart, to a nanosecond."""
    open_ends: list[int] = []
    for span in spans:
        begin, end = (round(1000 * time) for time in (span["ts"], span["ts"] + span["dur"]))
        while open_ends and open_ends[-1] <= begin + 1:
            open_ends.pop()
        assert not open_ends or end <= open_ends[-1] + 1, span
        open_ends.append(end)
    assert all(before["ts"] <= after["ts"] for before, after in pairwise(spans))
