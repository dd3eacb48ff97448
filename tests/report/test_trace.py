"""Traces: tracks, spans and instants, their times, and acceptance by viewers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.report.lanes import Band, Lane, Mark, Timeline
from derail.report.trace import BASE_PERIOD_S, render_trace
from report.trace_format import check_trace

WALL = 1_796_063_000.25
RUN = Timeline(
    seconds=4.5,
    wall=WALL,
    lanes=(
        Lane("agent", bands=(Band("running", 0.0, 3.0, "running"), Band("stopping", 3.0, 4.5, "stopping"))),
        Lane(
            "rank 0",
            rank=0,
            fate="SIGKILL (9), by itself",
            bands=(Band("alive", 0.5, 3.0), Band("fault", 2.5, 3.0, "signal SIGKILL on rank 0", "injected")),
            marks=(Mark("line", 2.5, "wrote 'step 3'"), Mark("exit", 3.0, "ended: SIGKILL (9)")),
        ),
    ),
)


def wall(data: bytes, event: dict[str, float]) -> float:
    """Return the time of an event in seconds since 1970."""
    return json.loads(data)["baseTimeNanoseconds"] / 1e9 + event["ts"] / 1e6


def test_a_run_is_a_process_with_a_track_for_the_launcher_and_one_for_each_rank() -> None:
    """Phases, lives and faults are spans; lines and exits are instants; each has its kind as category."""
    data = render_trace([("crash/killed", RUN)])
    launcher, rank = check_trace(data)

    assert [(track.process, track.name) for track in (launcher, rank)] == [
        ("derail: crash/killed", "launcher"),
        ("derail: crash/killed", "rank 0"),
    ]
    assert [(span["cat"], span["name"], span["dur"]) for span in launcher.spans] == [
        ("phase", "running", 3e6),
        ("phase", "stopping", 1.5e6),
    ]
    assert [(span["cat"], span["name"], span["args"]) for span in rank.spans] == [
        ("rank", "alive", {"ended": "SIGKILL (9), by itself"}),
        ("fault", "signal SIGKILL on rank 0", {"result": "injected"}),
    ]
    assert [(instant["cat"], instant["name"]) for instant in rank.instants] == [
        ("line", "wrote 'step 3'"),
        ("exit", "ended: SIGKILL (9)"),
    ]


def test_times_are_those_of_the_wall_clock_from_the_base_that_torch_profiler_chooses() -> None:
    """The base is a whole number of quarters of a year, so that microseconds are exact in a double."""
    data = render_trace([("", RUN)])
    base = json.loads(data)["baseTimeNanoseconds"]

    assert (base % (BASE_PERIOD_S * 10**9), base <= WALL * 1e9 < base + BASE_PERIOD_S * 1e9) == (0, True)
    assert wall(data, check_trace(data)[1].spans[0]) == pytest.approx(WALL + 0.5, abs=1e-6)


def test_runs_of_one_trace_have_one_base_and_their_own_places() -> None:
    """A trace may have many scenarios; one without a time begins with the first."""
    later = Timeline(RUN.seconds, RUN.lanes, WALL + 60)
    data = render_trace([("later", later), ("first", RUN), ("somewhen", Timeline(RUN.seconds, RUN.lanes))])
    begins = {track.process: wall(data, track.spans[0]) for track in check_trace(data) if track.name == "launcher"}

    assert begins == {
        "derail: later": pytest.approx(WALL + 60, abs=1e-6),
        "derail: first": pytest.approx(WALL, abs=1e-6),
        "derail: somewhen": pytest.approx(WALL, abs=1e-6),
    }


def test_overlapping_faults_have_separate_tracks() -> None:
    """A viewer would cut one of two overlapping spans on one track; nested spans share a track."""
    bands = (Band("alive", 0, 9), Band("fault", 1, 5, "a"), Band("fault", 2, 6, "b"), Band("fault", 2, 3, "c"))
    tracks = check_trace(render_trace([("", Timeline(9, (Lane("rank 0", 0, bands=bands),)))]))

    assert [(track.name, [span["name"] for span in track.spans]) for track in tracks] == [
        ("rank 0", ["alive", "a", "c"]),
        ("rank 0 (2)", ["b"]),
    ]


def test_an_empty_trace_is_valid() -> None:
    """A job without started ranks has no tracks."""
    assert check_trace(render_trace([])) == check_trace(render_trace([("skipped", Timeline())])) == []


MOMENTS = st.floats(0, 100).map(lambda at: round(at, 6))
BANDS = st.builds(
    lambda kind, times, text: Band(kind, min(times), max(times), text, "injected" if kind == "fault" else ""),
    st.sampled_from(["alive", "fault", "fault", "fault"]),
    st.tuples(MOMENTS, MOMENTS),
    st.text(max_size=3),
)
LANES = st.builds(
    lambda number, bands, marks: Lane(f"rank {number}", number, bands=tuple(bands), marks=tuple(marks)),
    st.integers(0, 3),
    st.lists(BANDS, max_size=8),
    st.lists(st.builds(Mark, st.just("line"), MOMENTS, st.text(max_size=3)), max_size=4),
)


@given(st.lists(LANES, max_size=4, unique_by=lambda lane: lane.name), st.sampled_from([0.0, WALL]))
def test_no_span_and_no_instant_of_a_timeline_is_lost(lanes: list[Lane], began: float) -> None:
    """Each appears once, with its length, whatever overlaps."""
    tracks = check_trace(render_trace([("", Timeline(100, tuple(lanes), began))]))

    spans = sorted(round(span["dur"]) for track in tracks for span in track.spans)
    assert spans == sorted(round(1e6 * (band.end - band.begin)) for lane in lanes for band in lane.bands)
    assert sum(len(track.instants) for track in tracks) == sum(len(lane.marks) for lane in lanes)
