"""Changes between two scorecards, and the exit code for CI."""

from __future__ import annotations

from dataclasses import replace

import pytest

from derail.report.comparison import Change, as_data, changes, exit_code, render_changes
from report.cards import BLAMED, CARD, CODE, ENDS, FAST, RIGHT, SKIPPED, SLOW, UNKNOWN, WRONG

NAME = "crash/right"
FAILED = replace(RIGHT, verdict="FAIL", reasons=("expected 1, got 2",), findings=(ENDS, BLAMED, CODE))
TWICE = replace(FAILED, findings=(replace(ENDS, kept=False), BLAMED, CODE), reasons=("expected 1, got 2", "and more"))
OTHER = replace(FAILED, reasons=("expected 1, got 3",))
LOST = replace(UNKNOWN, scenario=NAME)


@pytest.mark.parametrize(
    ("before", "now", "kind", "text", "code"),
    [
        (RIGHT, FAILED, "worse", "PASS -> FAIL: expected 1, got 2", 1),
        (LOST, FAILED, "worse", "INCONCLUSIVE -> FAIL: expected 1, got 2", 1),
        (FAILED, TWICE, "worse", "still FAIL, and breaks ends: expected the end of the job, got its end", 1),
        (RIGHT, LOST, "not judged any more", "PASS -> INCONCLUSIVE: not reached", 3),
        (FAILED, replace(SKIPPED, scenario=NAME), "not judged any more", "FAIL -> SKIPPED: it has no nodes", 3),
        (FAILED, RIGHT, "better", "FAIL -> PASS", 0),
        (TWICE, FAILED, "better", "still FAIL, but keeps ends", 0),
        (FAILED, OTHER, "differs", "FAIL for other reasons: expected 1, got 3", 0),
        (RIGHT, replace(RIGHT, reported="rank 0"), "differs", "reported rank 1: SIGKILL (9), now rank 0", 0),
        (RIGHT, replace(RIGHT, teardown_seconds=1.5), "slower", "teardown took 0.50 s, now 1.50 s", 0),
        (replace(RIGHT, teardown_seconds=1.5), RIGHT, "faster", "teardown took 1.50 s, now 0.50 s", 0),
    ],
)  # fmt: skip
def test_changes_are_classified(before, now, kind: str, text: str, code: int) -> None:
    """New failures, new passes, other texts, other times; only a change for the worse makes CI fail."""
    found = changes(replace(CARD, rows=(before,)), replace(CARD, rows=(now,)))
    assert (found, exit_code(found)) == ((Change(kind, NAME, text),), code)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("saw 'Signal 9 received by PID 123'", "saw 'Signal 9 received by PID 456'"),
        ("saw 0.31 s", "saw 0.29 s"),
        ("/tmp/a1/logs/error.json was cut", "/tmp/b2/logs/error.json was cut"),
    ],
)
def test_values_that_differ_in_each_run_are_no_change(before: str, now: str) -> None:
    """Process numbers, times and folders are ignored."""
    cards = [replace(CARD, rows=(replace(FAILED, reasons=(reason,)),)) for reason in (before, now)]
    assert changes(*cards) == ()


def test_a_teardown_that_takes_a_little_longer_is_no_change() -> None:
    """A change needs half a second and a factor of two, because machines are busy."""
    cards = [replace(CARD, rows=(replace(RIGHT, teardown_seconds=took),)) for took in (0.01, 0.4)]
    assert changes(*cards) == ()


def test_scenarios_in_only_one_scorecard_do_not_count() -> None:
    """The two campaigns ran different scenarios."""
    found = changes(replace(CARD, rows=(RIGHT,)), replace(CARD, rows=(WRONG,)))
    assert found == (Change("only before", "crash/right", "PASS"), Change("only now", "crash/wrong", "FAIL"))
    assert exit_code(found) == 0


def test_the_text_lists_the_worst_changes_first() -> None:
    """It follows the two agents, and the differences between their promises."""
    now = replace(
        CARD, version="1.3", promises=("ends", "teardown_seconds"), rows=(FAILED, replace(WRONG, verdict="PASS"))
    )
    found = changes(CARD, now)
    lines = render_changes(CARD, now, found).splitlines()
    assert lines[0].startswith("before: planted 1.2: ")
    assert lines[1:4] == [
        "now:    planted 1.3: 2026-01-02T03:04:05Z, Linux 6, Python 3.12.1, 2 cores, uid 0, derail 0.1.0",
        "not promised any more: root_cause",
        "promised now: teardown_seconds",
    ]
    assert [line for line in lines if line.endswith("):")] == ["worse (1):", "better (1):", "only before (2):"]
    assert as_data(found)[0] == {"kind": "worse", "scenario": NAME, "text": "PASS -> FAIL: expected 1, got 2"}


def test_two_equal_scorecards_have_no_changes() -> None:
    """There is a line that nothing changed."""
    assert render_changes(CARD, CARD, changes(CARD, CARD)).splitlines()[-1] == "nothing changed in 4 scenarios"


def test_a_recovery_that_takes_twice_as_long_is_slower() -> None:
    """A quarter of a second more is no change; twice the lost steps are a difference. Neither changes the exit code."""
    cards = [replace(CARD, rows=(replace(RIGHT, recovery=each),)) for each in (FAST, SLOW)]
    found = changes(*cards)

    assert [(change.kind, change.text) for change in found] == [
        ("differs", "steps lost: 3, now 8"),
        ("slower", "stopped after the fault 0.50 s, now 2.00 s"),
        ("slower", "ran again after the fault 2.00 s, now 5.00 s"),
    ]
    assert [change.kind for change in changes(*reversed(cards))] == ["differs", "faster", "faster"]
    assert exit_code(found) == 0

    noise = [replace(FAST, lost_steps=lost) for lost in (0, 1, 3, 5)]
    for old, new in [(noise[0], noise[1]), (noise[2], noise[3])]:
        cards = [replace(CARD, rows=(replace(RIGHT, recovery=each),)) for each in (old, new)]
        assert changes(*cards) == ()


def test_medians_are_over_the_scenarios_that_both_have_measured() -> None:
    """A scenario that only one scorecard has, or has measured, would change the median by itself."""
    more = (replace(RIGHT, recovery=SLOW, scenario="only/before"), replace(WRONG, recovery=SLOW))
    before = replace(CARD, rows=(replace(RIGHT, recovery=FAST), *more))
    now = replace(CARD, rows=(replace(RIGHT, recovery=replace(SLOW, recover=None)), WRONG))
    lines = render_changes(before, now, changes(before, now)).splitlines()

    assert [line for line in lines if "median" in line] == [
        "noticed after the fault: median 0.250 s, now 0.500 s (1 scenario)",
        "stopped after the fault: median 0.500 s, now 2.00 s (1 scenario)",
        "steps lost: median 3 steps, now 8 steps (1 scenario)",
    ]
