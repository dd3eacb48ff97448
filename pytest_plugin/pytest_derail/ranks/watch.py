"""Wait for the end of a test on its ranks, new or reused, and end them if they exceed the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_derail.ranks import stacks
from pytest_derail.ranks.result import broken_off, judge_ranks
from pytest_derail.ranks.time_limit import SETTLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_derail.ranks.debugger import Debugger
    from pytest_derail.ranks.notify import Readable
    from pytest_derail.ranks.phase_reports import RankRecord
    from pytest_derail.ranks.result import Verdict
    from pytest_derail.ranks.stacks import RanksJob, Whereabouts
    from pytest_derail.ranks.time_limit import TimeLimit


class Progress(Protocol):
    """Progress of a running test on its ranks, as the controller sees it."""

    @property
    def is_over(self) -> bool:
        """Whether the test is over in all ranks, or their job is."""

    @property
    def has_begun(self) -> bool:
        """Whether the test has begun in all ranks."""

    @property
    def first_bad(self) -> int | None:
        """The first rank in which the test did not pass."""

    @property
    def first_gone(self) -> int | None:
        """The first rank of another launcher that has gone while the test runs."""

    def wait(self, seconds: float, others: Sequence[Readable]) -> None:
        """Wait for a message of the ranks, or until one of ``others`` is readable, for at most ``seconds``."""

    def records(self) -> dict[int, RankRecord]:
        """Return what each rank has recorded by now."""

    def unfinished(self, records: Mapping[int, RankRecord]) -> list[int]:
        """Return the ranks in which the test is not over."""


def watch(
    job: RanksJob, ranks: Progress, limit: TimeLimit, debugger: Debugger
) -> tuple[Mapping[int, Whereabouts], Mapping[int, RankRecord]]:
    """Wait for the end of a test, and stop its job if it takes too long.

    The job is also stopped if only ranks are left that wait for one in which the test did not pass.

    Returns:
        The state of the ranks that did not end; and, at the time limit, what they had recorded by then. Later records
        do not count: the request for a stack may wake a rank that hangs in a system call.
    """
    __tracebackhide__ = True
    while not ranks.is_over:
        ranks.wait(limit.seconds, debugger.sources)
        limit.stand_still(debugger.attend(lambda rank: _failure(ranks.records()[rank])))
        if ranks.has_begun:
            limit.begin()
        if ranks.first_bad is not None and not debugger.may_be_waited_for(ranks.first_bad):
            limit.settle(SETTLE_SECONDS)
        if not ranks.is_over and limit.is_over:
            records = ranks.records()
            unfinished = ranks.unfinished(records)
            failed = ranks.first_gone if ranks.first_bad is None else ranks.first_bad
            # A launcher need not end the other ranks when one has gone: then that one has failed, and no rank hangs.
            hangs = limit.timed_out and ranks.first_gone is None
            states = stacks.look(job, unfinished or list(records), "hang" if hangs else "failure")
            if hangs:
                job.stop(limit.reason, timed_out=True)
                return states, {rank: records[rank] for rank in unfinished or states}
            job.stop(f"the test did not pass in rank {failed}, and other ranks waited for it")
            return states, {}
    return {}, {}


def _failure(record: RankRecord) -> str:
    """Return the last failure that a rank has recorded."""
    return next((report.text for report in reversed(record.reports) if report.result == "failed"), "")


def break_off(job: RanksJob, ranks: Progress, limit: TimeLimit, error: BaseException) -> Verdict:
    """End the job of a test when the controller is interrupted, and return the result of its ranks so far."""
    try:
        states = stacks.look(job, ranks.unfinished(ranks.records()), "interrupt")
        job.stop(f"{type(error).__name__} interrupted the controller")
        job.close()
    except BaseException:  # a second Ctrl-C at any point: the ranks get no grace period any more
        job.stop("interrupted while closing", grace=0)
        raise
    verdict = judge_ranks(job.wait(), ranks.records(), states, late={}, timeout=limit.timeout)
    return broken_off(verdict, error)
