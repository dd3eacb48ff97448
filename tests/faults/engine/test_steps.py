"""Step lines of ranks, as records of the journal."""

import pytest

from derail.faults.engine.steps import Steps
from derail.model.events import Exited, Finished, LineSeen, Started
from derail.model.exit import ExitStatus
from derail.model.outcome import JobOutcome
from derail.scenario.recovery import STEP

DONE = Finished(JobOutcome(ranks={}, root_cause=None, started_at=0.0, ended_at=9.0), 9.0)


def records(*events, pattern=STEP):
    """Return the records for these events, without the names of their keys."""
    steps = Steps(pattern)
    return [tuple(record.values()) for event in events for record in steps.records(event)]


def line(rank, at, text):
    """Return a line of a rank."""
    return LineSeen(rank, "stdout", text, at)


def gone(rank, at):
    """Return the exit of a rank."""
    return Exited(rank, 10 + rank, ExitStatus(signal=9), at)


def test_the_first_and_the_last_step_of_each_process_are_recorded():
    """The last one with its exit, or with the end of the job, and with the step that any rank had reached by then."""
    assert records(
        Started(0, 10, 0.0), Started(1, 11, 0.0),
        line(0, 1.0, "rank 0: step 1"), line(0, 2.0, "rank 0: step 2"), line(1, 2.5, "step 1"), gone(1, 3.0),
        line(0, 4.0, "step 3"), gone(0, 5.0),
        Started(1, 21, 6.0), line(1, 7.0, "step 2"), DONE,
    ) == [
        ("step", 0, 1, 1.0), ("step", 1, 1, 2.5), ("last_step", 1, 1, 2.5, 2), ("last_step", 0, 3, 4.0, 3),
        ("step", 1, 2, 7.0), ("last_step", 1, 2, 7.0, 3),
    ]  # fmt: skip


def test_a_process_without_a_step_line_has_no_record():
    """No number stands in for an unknown step."""
    assert records(Started(0, 10, 0.0), line(0, 1.0, "loading"), gone(0, 2.0), DONE) == []


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("step 7", 7), ("rank 3: step 7", 7), ("worker: step 7 loss 0.3", 7),
        ("rank 0: resumed at step 7", None), ("rank 0: saved step 7", None), ("footstep 7", None),
        ("step seven", None), ("step " + "9" * 5000, None), ("step \u0663", None),
    ],
)  # fmt: skip
def test_only_step_lines_are_read(text, step):
    """Lines about resumed and saved steps are none, and neither are numbers that no job reaches."""
    assert [record[2] for record in records(Started(0, 10, 0.0), line(0, 1.0, text))] == (
        [] if step is None else [step]
    )


def test_the_pattern_may_be_another_one_whose_group_need_not_match():
    """A line that matches without a number is no step."""
    pattern = r"batch(?: (\d+))?"
    assert records(line(0, 1.0, "batch 4"), line(0, 2.0, "batch"), pattern=pattern) == [("step", 0, 4, 1.0)]
    assert records(line(0, 1.0, "step 4"), pattern="") == []
