"""The outcome of a job, as values."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.model.exit import ExitStatus
from derail.model.outcome import Cause, Leftover, RankOutcome, RunProcsResult

OK, KILLED, TERMED = ExitStatus(code=0), ExitStatus(signal=9), ExitStatus(signal=15)


def fate(rank, status=OK, cause=Cause.SELF, *, order=None, succeeded=False, returned=False):
    """Return the outcome of one rank, from a few arguments."""
    return RankOutcome(rank, 100 + rank, status, cause, exit_order=order, succeeded=succeeded, returned=returned)


def job(*fates, root_cause=None, **more):
    """Return a job with these ranks."""
    return RunProcsResult(
        ranks={one.rank: one for one in fates}, root_cause=root_cause, started_at=10.0, ended_at=20.0, **more
    )


@st.composite
def jobs(draw):
    """Draw any job that is possible."""
    ranks = draw(st.integers(0, 6))
    order = draw(st.permutations(range(ranks)))
    statuses = st.integers(-64, 255).map(ExitStatus.from_returncode) | st.just(ExitStatus(lost="stolen"))
    fates = []
    for rank in range(ranks):
        cause = draw(st.sampled_from(Cause))
        if cause is Cause.ABANDONED:
            fates.append(fate(rank, None, cause))
        else:
            status = draw(statuses)
            won = cause is Cause.SELF and status.ok and draw(st.booleans())
            fates.append(fate(rank, status, cause, order=order[rank], succeeded=won))
    alone = [f for f in fates if f.cause is Cause.SELF and not f.succeeded]
    abandoned = [f for f in fates if f.cause is Cause.ABANDONED]
    first = min(alone, key=lambda f: f.exit_order, default=abandoned[0] if abandoned else None)
    return job(*fates, root_cause=None if first is None else first.rank)


class TestRankOutcome:
    """The outcome of one rank."""

    @pytest.mark.parametrize(
        ("outcome", "failed", "text"),
        [
            (fate(0, succeeded=True), False, "rank 0: exit 0, by itself"),
            (fate(1, ExitStatus(code=3)), True, "rank 1: exit 3, by itself"),
            (fate(2, KILLED), True, "rank 2: SIGKILL (9), by itself"),
            (fate(3, TERMED, Cause.STOPPED_BY_US), False, "rank 3: SIGTERM (15), stopped by us"),
            (fate(4, OK, Cause.STOPPED_BY_US), False, "rank 4: exit 0, stopped by us"),
            (fate(5, None, Cause.ABANDONED), True, "rank 5: still there, abandoned"),
            (fate(6, OK), True, "rank 6: exit 0 without a result, by itself"),
        ],
    )
    def test_each_outcome_differs_from_the_others(self, outcome, failed, text):
        """By itself, by us, or abandoned: only the first and the last are failures."""
        assert (outcome.failed, str(outcome)) == (failed, text)


class TestLeftover:
    """Something that outlived its rank."""

    @pytest.mark.parametrize(
        ("leftover", "text"),
        [
            (Leftover("process", "sleep 600", pid=7, rank=2), "process 7 of rank 2: sleep 600"),
            (Leftover("process", "sleep 600", pid=7, ended=True), "process 7: sleep 600 (ended)"),
            (Leftover("shm", "/psm_1", rank=0), "shm of rank 0: /psm_1"),
            (Leftover("file", "/tmp/x"), "file: /tmp/x"),
            (Leftover("process", "x" * 200, pid=7), f"process 7: {'x' * 120}..."),
        ],
    )
    def test_one_line_for_people(self, leftover, text):
        """Kind, process, rank, name, and whether it is gone."""
        assert str(leftover) == text


class TestJobOutcome:
    """The whole outcome."""

    def test_a_job_in_which_all_succeeded(self):
        """No rank failed, no rank was stopped, and the exit code is 0."""
        outcome = job(fate(0, order=1, succeeded=True), fate(1, order=0, succeeded=True))

        told = (outcome.succeeded, outcome.failed, outcome.stopped, outcome.exit_code, outcome.teardown_seconds)
        assert told == (True, (), (), 0, None)

    def test_a_job_in_which_one_was_killed_and_the_others_stopped(self):
        """The killed rank is the root cause, and its signal gives the exit code; the others are no failures."""
        outcome = job(
            fate(0, TERMED, Cause.STOPPED_BY_US, order=1),
            fate(1, KILLED, Cause.STOPPED_BY_US, order=2),
            fate(2, KILLED, order=0),
            root_cause=2,
            stop_requested_at=18.5,
        )

        told = (outcome.succeeded, outcome.failed, outcome.stopped, outcome.exit_code, outcome.teardown_seconds)
        assert told == (False, (2,), (0, 1), 137, 1.5)

    def test_failures_are_sorted_root_cause_first_then_by_exit_then_abandoned(self):
        """The order of the failures is the order in which they happened."""
        outcome = job(
            fate(0, None, Cause.ABANDONED),
            fate(1, ExitStatus(code=1), order=2),
            fate(2, ExitStatus(code=2), order=0),
            fate(3, ExitStatus(code=3), order=1),
            root_cause=2,
        )

        assert outcome.failed == (2, 3, 1, 0)

    def test_a_given_root_cause_is_first_even_if_it_ended_later(self):
        """The exit code is that of the given root cause."""
        outcome = job(fate(0, ExitStatus(code=1), order=0), fate(1, ExitStatus(code=2), order=1), root_cause=1)

        assert (outcome.failed, outcome.exit_code) == ((1, 0), 2)

    @pytest.mark.parametrize(
        ("outcome", "exit_code"),
        [
            (job(), 1),
            (job(fate(0, OK), root_cause=0), 1),
            (job(fate(0, None, Cause.ABANDONED), root_cause=0), 1),
            (job(fate(0, TERMED, Cause.STOPPED_BY_US)), 143),
            (job(fate(0, OK, Cause.STOPPED_BY_US)), 1),
            (job(fate(0, ExitStatus(lost="stolen")), root_cause=0), 255),
            (job(fate(0, ExitStatus(code=75)), root_cause=0), 75),
        ],
    )
    def test_a_job_that_did_not_succeed_never_exits_with_0(self, outcome, exit_code):
        """No result, no status, no rank at all: none of them is success."""
        assert (outcome.succeeded, outcome.exit_code) == (False, exit_code)

    @given(jobs())
    def test_every_rank_is_in_exactly_one_place(self, outcome):
        """A rank succeeded, failed, or was stopped; never two of them, never none."""
        succeeded = tuple(rank for rank, one in outcome.ranks.items() if one.succeeded)

        assert sorted(succeeded + outcome.failed + outcome.stopped) == sorted(outcome.ranks)

    @given(jobs())
    def test_the_exit_code_is_0_only_if_all_succeeded(self, outcome):
        """No failure looks like a success."""
        assert (
            (outcome.exit_code == 0)
            == outcome.succeeded
            == (bool(outcome.ranks) and not outcome.failed + outcome.stopped)
        )

    @given(jobs())
    def test_the_root_cause_is_the_first_failure(self, outcome):
        """The given root cause is first, and there is none if no rank failed."""
        assert outcome.root_cause == (outcome.failed[0] if outcome.failed else None)


class TestRunProcsResult:
    """The result of ``wait()``."""

    def test_an_empty_result_is_no_failure(self):
        """As with torch, a result without failures is not failed."""
        result = RunProcsResult()

        assert (result.is_failed(), result.root_cause) == (False, None)

    def test_a_result_is_made_as_torchs(self):
        """Torch's attributes are first, and positional; those of the ranks need their names."""
        result = RunProcsResult({0: "value"}, {}, {0: "out"}, {0: "err"})

        assert (result.return_values, result.stdouts, result.stderrs) == ({0: "value"}, {0: "out"}, {0: "err"})
        assert (result.ran, result.ranks, result.seconds, result.teardown_seconds) == (False, {}, None, None)

    def test_a_job_that_was_stopped_did_not_succeed(self):
        """A job that was stopped from outside has no failure, but counts as failed."""
        stopped = fate(0, TERMED, Cause.STOPPED_BY_US)

        assert job(stopped).is_failed()

    def test_two_results_share_no_data(self):
        """The maps of one result are not those of another."""
        one, other = RunProcsResult(), RunProcsResult()
        one.return_values[0] = 1

        assert other.return_values == {}

    def test_a_result_is_frozen(self):
        """A published result cannot be changed."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            RunProcsResult().failures = {}
