"""Lanes, bands and marks from a journal, also from a damaged one."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from derail import faults
from derail.faults.engine import journal
from derail.model.clock import FakeClock
from derail.model.events import (
    DeadlinePassed,
    Exited,
    Finished,
    PhaseChanged,
    SignalSent,
    Started,
    StopRequested,
    ValueReceived,
)
from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, JobOutcome, Leftover, RankOutcome, fields_of
from derail.report.lanes import Timeline
from derail.report.timeline import observed, timeline
from derail.report.timeline_text import render_timeline, spans
from derail.report.trace import render_trace
from derail.scenario.model import JobResult
from report.trace_format import check_trace

KILL = faults.plan([faults.signal("SIGKILL", rank=1)])
FAULT = KILL.faults[0].id
KILLED, ASKED = ExitStatus(signal=9), ExitStatus(signal=15)
OUTCOME = JobOutcome(
    ranks={
        0: RankOutcome(0, 100, ASKED, Cause.STOPPED_BY_US, exit_order=1, exited_at=104.5),
        1: RankOutcome(1, 101, KILLED, Cause.SELF, exit_order=0, exited_at=103.0),
    },
    root_cause=1,
    started_at=100.0,
    ended_at=104.5,
    stop_requested_at=103.0,
)


def killed(path: Path) -> tuple[journal.Record, ...]:
    """Return the journal of a run in which rank 1 is killed after 3 seconds, as launcher and driver write it."""
    clock = FakeClock(now=99.0)
    writer = journal.Journal(path, clock=clock)
    writer.write_plan(KILL, (0, 1))
    clock.advance(1.0)
    writer.write_event(PhaseChanged("starting", 100.0, 0))
    for rank in (0, 1):
        writer.write_event(Started(rank, 100 + rank, 100.0))
    writer.write_event(PhaseChanged("running", 100.0))
    clock.advance(3.0)
    writer.write("start", fault=FAULT, rank=1)
    writer.write_event(Exited(1, 101, KILLED, 103.0))
    writer.write("end", fault=FAULT, rank=1, result="injected", detail="gone")
    writer.write_event(PhaseChanged("stopping", 103.0))
    writer.write_event(SignalSent(0, 15, 103.0))
    clock.advance(1.5)
    writer.write_event(Exited(0, 100, ASKED, 104.5))
    writer.write_event(Finished(OUTCOME, 104.5))
    return journal.read(path)


def test_a_journal_becomes_a_lane_for_the_agent_and_one_for_each_rank(tmp_path: Path) -> None:
    """Each has its bands, its marks and its end."""
    told = timeline(killed(tmp_path / "journal.jsonl"))
    agent, asked, hit = told.lanes
    assert (told.seconds, [lane.name for lane in told.lanes]) == (4.5, ["agent", "rank 0", "rank 1"])
    assert [(band.kind, band.begin, band.end) for band in agent.bands] == [
        ("starting", 0.0, 0.0),
        ("running", 0.0, 3.0),
        ("stopping", 3.0, 4.5),
    ]
    assert [(band.kind, band.begin, band.end) for band in asked.bands] == [("alive", 0.0, 4.5)]
    assert [(mark.kind, mark.at, mark.text) for mark in asked.marks] == [
        ("start", 0.0, "started (pid 100)"),
        ("signal", 3.0, "signalled: SIGTERM"),
        ("exit", 4.5, "ended: SIGTERM (15)"),
    ]
    assert [(band.kind, band.begin, band.end, band.result) for band in hit.bands] == [
        ("alive", 0.0, 3.0, ""),
        ("fault", 3.0, 3.0, "injected"),
    ]
    assert [(lane.fate, lane.telling, lane.failed) for lane in (asked, hit)] == [
        ("SIGTERM (15), stopped by us", False, False),
        ("SIGKILL (9), by itself", True, True),
    ]


def test_a_fault_lasts_until_it_is_undone_or_its_rank_has_ended(tmp_path: Path) -> None:
    """A fault that is never undone lasts as long as its rank; without an ``end`` its result is unknown."""
    clock = FakeClock(now=10.0)
    writer = journal.Journal(tmp_path / "journal.jsonl", clock=clock)
    for rank in (0, 1):
        writer.write_event(Started(rank, 100 + rank, 10.0))
        writer.write("start", fault="pause", rank=rank)
    clock.advance(2.0)
    writer.write("end", fault="pause", rank=0, result="injected", detail="state T")
    clock.advance(2.0)
    writer.write("healed", fault="pause", rank=0, what="continue it")
    clock.advance(1.0)
    for rank in (0, 1):
        writer.write_event(Exited(rank, 100 + rank, ExitStatus(code=0), 15.0))
    told = timeline(journal.read(writer.path))
    bands = [(band.begin, band.end, band.result) for lane in told.lanes for band in lane.bands if band.kind == "fault"]
    assert bands == [(0.0, 4.0, "injected"), (0.0, 5.0, "unknown")]


def test_a_rank_that_is_started_again_lives_twice(tmp_path: Path) -> None:
    """Both lives are in one lane, with a gap between them."""
    writer = journal.Journal(tmp_path / "journal.jsonl", clock=FakeClock())
    for pid, at in ((100, 1.0), (200, 4.0)):
        writer.write_event(Started(0, pid, at))
        writer.write_event(Exited(0, pid, ExitStatus(code=1), at + 1))
    (_, rank) = timeline(journal.read(writer.path)).lanes
    assert [(band.begin, band.end) for band in rank.bands] == [(0.0, 1.0), (3.0, 4.0)]


def test_each_event_of_a_journal_becomes_a_mark(tmp_path: Path) -> None:
    """Each mark has a text, in the lane of its rank."""
    clock = FakeClock()
    writer = journal.Journal(tmp_path / "journal.jsonl", clock=clock)
    writer.write_event(PhaseChanged("starting", 0.0, 0))
    writer.write_event(Started(0, 100, 0.0))
    happened = [
        lambda: writer.write_event(ValueReceived(0, clock.now())),
        lambda: writer.write_event(StopRequested("a timeout", 15, 1.0, clock.now())),
        lambda: writer.write("hang", culprits=[], lines=["hang: rank 0 waits", "      rank 1 never called it"]),
        lambda: writer.write_event(DeadlinePassed("kill", clock.now())),
        lambda: writer.write("healed", fault="f", rank=0, what="continue it"),
        lambda: writer.write("heal_failed", fault="f", rank=0, what="continue it", error="it is gone"),
    ]
    for each in happened:
        clock.advance(1.0)
        each()
    agent, rank = timeline(journal.read(writer.path)).lanes
    assert [(mark.kind, mark.at, mark.text) for mark in (*agent.marks, *rank.marks)] == [
        ("stop", 2.0, "asked to end the job: a timeout"),
        ("stop", 3.0, "hang: rank 0 waits; rank 1 never called it"),
        ("deadline", 4.0, "the grace period is over"),
        ("start", 0.0, "started (pid 100)"),
        ("value", 1.0, "returned"),
        ("fault", 5.0, "healed: continue it"),
        ("fault", 6.0, "could not be healed: continue it: it is gone"),
    ]
    assert [(band.kind, band.begin, band.end) for band in (*agent.bands, *rank.bands)] == [
        ("starting", 0.0, 6.0),
        ("alive", 0.0, 6.0),
    ]
    assert (rank.fate, rank.telling) == ("still there", True)


def test_each_process_of_an_agent_has_a_lane(tmp_path: Path) -> None:
    """There may be one agent per node; faults on the agent itself have a separate lane."""
    clock = FakeClock()
    writer = journal.Journal(tmp_path / "journal.jsonl", clock=clock)
    for node in (0, 1):
        writer.write("agent_started", agent=f"node {node}", pid=10 + node)
    writer.write_event(Started(0, 100, 0.0))
    clock.advance(1.0)
    writer.write("agent_signalled", agent="node 1", signal=2)
    writer.write("agent_exited", agent="node 1", pid=11, status="exit 1")
    told = timeline(journal.read(writer.path))
    assert [(lane.name, lane.rank, lane.fate) for lane in told.lanes] == [
        ("node 0", None, "still there"),
        ("node 1", None, "exit 1"),
        ("rank 0", 0, "still there"),
    ]
    assert [mark.text for mark in told.lanes[1].marks] == ["started (pid 11)", "signalled: SIGINT", "ended: exit 1"]
    writer.write("start", fault="killed", rank=None)
    (agent, *_) = timeline(journal.read(writer.path)).lanes
    assert (agent.name, [band.text for band in agent.bands]) == ("agent", ["killed"])


def test_the_clock_of_a_rank_does_not_stretch_the_run(tmp_path: Path) -> None:
    """Ranks also write to the journal, and their clock may be the broken part."""
    records = killed(tmp_path / "journal.jsonl")
    wrong = {"event": "start", "at": 1e9, "by": -1, "rank": 0, "fault": "clock"}
    told = timeline([*records, wrong])
    assert told.seconds == 4.5
    assert [band.begin for band in told.lanes[1].bands if band.kind == "fault"] == [4.5]


def test_only_the_last_run_of_a_journal_is_shown(tmp_path: Path) -> None:
    """A directory that was used twice has both runs in its journal."""
    once = timeline(killed(tmp_path / "journal.jsonl"))
    assert timeline(killed(tmp_path / "journal.jsonl")) == once


def test_without_a_journal_the_outcome_provides_the_exits() -> None:
    """It contains no faults and no signals, but the lanes exist."""
    told = observed(JobResult(**fields_of(OUTCOME)))
    assert [(lane.name, [(band.begin, band.end) for band in lane.bands]) for lane in told.lanes] == [
        ("agent", [(3.0, 4.5)]),
        ("rank 0", [(0.0, 4.5)]),
        ("rank 1", [(0.0, 3.0)]),
    ]


def test_a_run_without_records_has_an_empty_timeline() -> None:
    """It has only the agent's lane, and no text."""
    told = observed(JobResult(journal=Path("/nowhere/journal.jsonl")))
    assert ([lane.name for lane in told.lanes], render_timeline(told)) == (["agent"], "")


def test_a_leftover_is_in_the_lane_of_its_rank(tmp_path: Path) -> None:
    """The mark is at the end of the run."""
    left = Leftover("process", "sleep 1000", pid=7, rank=0)
    told = timeline(killed(tmp_path / "journal.jsonl"), leftovers=[left])
    assert told.lanes[1].telling
    assert told.lanes[1].marks[-1].text == f"left behind: {left}"


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(),
    st.text(max_size=5),
    st.dictionaries(st.text("0123x", max_size=2), st.text(max_size=3), max_size=2),
)
EVENTS = [
    "plan",
    "phase",
    "started",
    "exited",
    "signal_sent",
    "line",
    "start",
    "end",
    "healed",
    "finished",
    "deadline",
    "agent_exited",
    "agent_started",
]
RECORDS = st.builds(
    lambda event, rest: {"event": event, "at": 1.0, **rest},
    st.sampled_from(EVENTS),
    st.dictionaries(
        st.sampled_from(
            [
                "at",
                "by",
                "wall",
                "rank",
                "agent",
                "phase",
                "fault",
                "pid",
                "status",
                "signal",
                "plan",
                "ranks",
                "seen_at",
            ]
        ),
        VALUES,
    ),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(RECORDS, max_size=12))
@example(
    [{"event": f"agent_{what}", "at": at, "agent": "\x1b[31m"} for what, at in (("started", 0.0), ("exited", 1.0))]
)
def test_any_journal_becomes_a_timeline(records: list[dict[str, object]]) -> None:
    """No output of a rank breaks a report; all bands and marks lie within the run."""
    told = timeline(records)
    times = [at for lane in told.lanes for band in lane.bands for at in (band.begin, band.end)]
    times += [mark.at for lane in told.lanes for mark in lane.marks]
    assert all(0 <= at <= told.seconds + 1e-5 for at in times)
    assert all(line.isprintable() for line in render_timeline(told).split("\n"))
    check_trace(render_trace([("", told)]))


def test_the_text_draws_each_lane_and_lists_events(tmp_path: Path) -> None:
    """It is plain text for terminals, logs and JUnit files."""
    text = render_timeline(timeline(killed(tmp_path / "journal.jsonl")), width=70)
    chart, events = text.splitlines()[:5], text.splitlines()[5:]
    assert chart == [
        "        0                          4.50 s",
        "agent   ======================sssssssssss",
        "rank 0  ----------------------T---------#  SIGTERM (15), stopped by us",
        "rank 1  ---------------------!#            SIGKILL (9), by itself",
        "        - lives  ! fault  * line that triggered one  T signal from the launcher  # end",
    ]
    assert sorted(events) == [
        "   0.000 s  agent: running",
        "   0.000 s  agent: starting",
        "   0.000 s  ranks 0-1: started",
        "   3.000 s  agent: stopping",
        "   3.000 s  rank 0: signalled: SIGTERM",
        "   3.000 s  rank 1: ended: SIGKILL (9)",
        "   3.000 s  rank 1: hit by signal SIGKILL on rank 1 at its start",
        "   3.000 s  rank 1: signal injected: gone",
        "   4.500 s  rank 0: ended: SIGTERM (15)",
    ]


def test_of_many_ranks_the_text_shows_those_of_interest(tmp_path: Path) -> None:
    """The others are counted."""
    clock = FakeClock()
    writer = journal.Journal(tmp_path / "journal.jsonl", clock=clock)
    for rank in range(64):
        writer.write_event(Started(rank, 100 + rank, 0.0))
    writer.write("start", fault="f", rank=63)
    for rank in range(64):
        writer.write_event(Exited(rank, 100 + rank, ExitStatus(code=0), 1.0))
    lines = render_timeline(timeline(journal.read(writer.path))).splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("rank")][-1] == "rank 63"
    assert "and 49 more ranks: exit 0" in " ".join(lines)
    assert "   0.000 s  ranks 0-63: started" in lines


def test_of_many_events_the_text_shows_the_first_and_the_last(tmp_path: Path) -> None:
    """The number of hidden events is between them."""
    clock = FakeClock()
    writer = journal.Journal(tmp_path / "journal.jsonl", clock=clock)
    writer.write_event(Started(0, 100, 0.0))
    for number in range(100):
        clock.advance(0.1)
        writer.write("line", rank=0, text=f"step {number}", fault="f")
    text = render_timeline(timeline(journal.read(writer.path)))
    assert "            ... 41 more ..." in text.splitlines()
    assert [word in text for word in ("'step 0'", "'step 50'", "'step 99'")] == [True, False, True]


def test_neighbouring_numbers_are_a_range() -> None:
    """They are in ascending order, each once."""
    assert [spans([]), spans([3]), spans([0, 1, 2, 5, 7, 7, 8])] == ["", "3", "0-2, 5, 7-8"]


def test_an_empty_timeline_has_no_text() -> None:
    """There is nothing to draw."""
    assert render_timeline(Timeline()) == ""
