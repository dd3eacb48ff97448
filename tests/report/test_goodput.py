"""Goodput of a job as text and as data."""

from __future__ import annotations

from dataclasses import replace

from derail.report.goodput import as_data, render_goodput, render_schedule, values_of
from derail.scenario.goodput import Break, Goodput, Measurement, Outcome, Pace
from derail.scenario.recovery import Recovery
from report.cards import HOSTILE

FIRST, SECOND = Break(1, 3.25, 1), Break(2, 20.5, 0)
HIT = Outcome(FIRST, hit=True, detail="SIGKILL sent to pid 7; the rank ended with SIGKILL (9)", fault="signal SIGKILL")
MISSED = Outcome(SECOND, hit=False, detail="the rank had ended before the signal could be sent", fault="signal SIGKILL")
MEASURED = Measurement(
    "loop", "torchrun", mtbf=20.0, seconds=60.0, seed=3, outcomes=(HIT, MISSED), pace=Pace(1.5, 4.0),
    goodput=Goodput(useful=141, seconds=60.0, quiet=235.0, attempts=3, half=0.25),
    recoveries=(Recovery(0.25, 0.5, 4.0, 7, failed=True, stepped=True), Recovery(0.75, failed=True, stepped=True)),
    started_again=("after 40.0 s: all its restarts are used up; rank 1: SIGKILL (9)",),
)  # fmt: skip


def test_the_text_has_the_result_its_interval_and_each_break() -> None:
    """Measures that only some recoveries have are counted as such."""
    assert render_goodput(MEASURED, ["budget recover=3s: 1 of 2 recoveries exceed it"]).splitlines() == [
        "loop on torchrun, mtbf 20 s, seed 3",
        "  * budget recover=3s: 1 of 2 recoveries exceed it",
        "goodput: 60.0 %, 95 % interval 35.0 % to 85.0 % (Student's t over 3 attempts)",
        "  141 useful steps in 60.0 s; a quiet run makes 235.0 (4 steps/s, the first after 1.50 s)",
        "breaks: 2 planned, 1 injected",
        "  +   1      3.25 s  rank 1  signal SIGKILL: SIGKILL sent to pid 7; the rank ended with SIGKILL (9)",
        "  -   2     20.50 s  rank 0  signal SIGKILL: the rank had ended before the signal could be sent",
        "started again after 40.0 s: all its restarts are used up; rank 1: SIGKILL (9)",
        "noticed after the fault: median 0.500 s of 2 (0.250 s to 0.750 s)",
        "stopped after the fault: median 0.500 s of 1 (0.500 s to 0.500 s)",
        "ran again after the fault: median 4.00 s of 1 (4.00 s to 4.00 s)",
        "steps lost: median 7 steps of 1 (7 steps to 7 steps)",
    ]


def test_the_schedule_is_printed_before_the_run() -> None:
    """With the seed by which it is repeated."""
    assert render_schedule([FIRST, SECOND], seed=3, mtbf=20, seconds=60).splitlines() == [
        "schedule of seed 3: 2 breaks in 60 s, one in 20 s on average",
        "    1      3.25 s  rank 1",
        "    2     20.50 s  rank 0",
    ]


def test_a_measurement_without_result_has_its_problem() -> None:
    """No number stands in for it; text of ranks has no control characters."""
    failed = replace(MEASURED, goodput=None, pace=None, recoveries=(), problem=f"the quiet run failed: {HOSTILE}")
    text = render_goodput(failed)

    assert "  * the quiet run failed: <script>" in text
    assert "goodput:" not in text
    assert all(line.isprintable() for line in text.splitlines())
    data = as_data(failed)
    assert {key for key, value in data.items() if value is None} == {
        "goodput", "interval", "useful_steps", "quiet_steps", "seconds", "attempts", "quiet",
    }  # fmt: skip


def test_an_interval_needs_two_attempts() -> None:
    """With one there is a value only. None of its ends is below 0."""
    alone = replace(MEASURED, goodput=Goodput(useful=9, seconds=6.0, quiet=10.0, attempts=1, half=None))
    assert "goodput: 90.0 %, no interval: it needs two attempts" in render_goodput(alone).splitlines()
    assert as_data(alone)["interval"] is None
    assert Goodput(useful=1, seconds=6.0, quiet=10.0, attempts=2, half=0.5).interval == (0.0, 0.6)


def test_the_data_have_each_break_and_each_recovery() -> None:
    """An unknown measure is null."""
    data = as_data(MEASURED, ["over"])
    assert (data["goodput"], data["interval"], data["violations"]) == (0.6, [0.35, 0.85], ["over"])
    assert data["breaks"][0] == {
        "number": 1, "at": 3.25, "rank": 1, "injected": True, "fault": "signal SIGKILL", "detail": HIT.detail,
    }  # fmt: skip
    assert data["recovery"][1] == {"notice": 0.75, "stop": None, "recover": None, "lost-steps": None}
    assert values_of(MEASURED, "lost-steps") == [7]


def test_a_long_schedule_is_cut() -> None:
    """The data have all of it."""
    breaks = [Break(number, float(number), 0) for number in range(1, 101)]
    lines = render_schedule(breaks, seed=3, mtbf=1, seconds=200).splitlines()
    outcomes = tuple(replace(HIT, planned=each) for each in breaks)

    assert (len(lines), lines[-1]) == (42, "  ... and 60 more breaks; --json has all")
    assert lines[-1] in render_goodput(replace(MEASURED, outcomes=outcomes)).splitlines()
