"""Faults in jobs that derail launches itself: programs and functions, with every start method."""

import os
import signal

import pytest

from derail import faults, when
from derail.agents.invocation import LocalJob
from derail.agents.native_job import start_job
from derail.faults import Plan
from derail.faults.engine import journal
from faults.rank_functions_of_faults import says_who, work
from faults.real_job import DEADLINE, result_of, running

METHODS = ["spawn", "fork", "forkserver", "warm"]
LONG = (100_000,)
"""Steps of a function that works until it is ended."""


@pytest.fixture
def launched(tmp_path):
    """Run a job to its end, and end it after any failure."""
    jobs = []

    def launch(run, *given, ranks=2, **options):
        job = start_job(LocalJob(run, ranks=ranks, plan=Plan(tuple(given)), **options), workdir=tmp_path / "work")
        jobs.append(job)
        return job.wait(DEADLINE)

    yield launch
    for job in jobs:
        job.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("trigger", [when.start(), when.line("step 2"), when.after(0.3)], ids=str)
def test_a_function_exits_raises_and_hangs_with_every_start_method(launched, method, trigger):
    """A forked rank never started an interpreter, but its faults act as well."""
    seen = launched(work, faults.exit(7, rank=1, when=trigger), args=LONG, start_method=method)

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert (seen.root_cause, str(seen.ranks[1].status)) == (1, "exit 7")
    assert seen.stopped == (0,)


@pytest.mark.parametrize("method", METHODS)
def test_an_exception_at_the_start_is_raised_in_the_function_and_recorded(launched, method):
    """It takes the path of an exception of the function: into the error file."""
    seen = launched(work, faults.exception("ValueError", "loss is nan", rank=0), start_method=method)

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert seen.root_cause == 0
    assert "loss is nan" in seen.failures[0].message
    assert seen.failures[0].error_file == "good"


@pytest.mark.parametrize("method", METHODS)
def test_a_hanging_function_ignores_sigterm(tmp_path, method):
    """It counts as stopped, not as the root cause."""
    hang = faults.hang(["SIGTERM"], rank=1, when=when.line("step 1"))
    with running(tmp_path, work, hang, ranks=2, args=LONG, grace=0.3, start_method=method) as job:
        assert result_of(job) == "injected"
        os.kill(job.pids()[0], signal.SIGKILL)
        seen = job.wait(DEADLINE)

    assert (seen.root_cause, str(seen.ranks[1].status)) == (0, "SIGKILL (9)")


@pytest.mark.parametrize("method", METHODS)
def test_a_function_with_a_fault_that_is_never_due_returns_normally(launched, method):
    """The wrapper around it is invisible."""
    seen = launched(says_who, faults.exit(7, rank=0, when=when.line("never")), start_method=method)

    assert seen.succeeded
    assert seen.return_values[0] == seen.ranks[0].pid
    assert [result.status for result in seen.faults] == ["not_reached"]


def test_the_journal_has_all_events_in_order(launched):
    """Phases, starts, the line that fires the fault, the fault, the exits, the end."""
    seen = launched(work, faults.signal("SIGKILL", rank=1, when=when.line("step 3")), args=LONG)
    events = [record["event"] for record in journal.read(seen.journal)]
    kept = [event for event in events if event in ("plan", "line", "start", "end", "signal_sent", "finished")]

    assert kept == ["plan", "line", "start", "end", "signal_sent", "finished"]
    assert events.count("exited") == 2
    assert events.index("start") < events.index("exited") < events.index("end")


def test_a_plan_without_valid_targets_starts_nothing(tmp_path):
    """The job is refused."""
    from derail.model.input_error import InputError

    with pytest.raises(InputError, match="there is no rank 5"):
        start_job(LocalJob(work, ranks=2, plan=Plan((faults.exit(7, rank=5),))), workdir=tmp_path)

    assert not list(tmp_path.rglob("*.jsonl"))


def test_faults_of_a_rank_that_cannot_be_started_are_not_reached(tmp_path):
    """The job never ran, so no fault is claimed."""
    with pytest.raises(OSError, match="no/such/program"):
        start_job(
            LocalJob(["/no/such/program"], ranks=2, plan=Plan((faults.signal("SIGKILL", rank=0),))), workdir=tmp_path
        )

    kept = [record["event"] for record in journal.read(tmp_path / "journal.jsonl")]
    assert kept[0] == "plan"
    assert "start" not in kept
    assert [r["result"] for r in journal.read(tmp_path / "journal.jsonl") if r["event"] == "end"] == ["not_reached"]
