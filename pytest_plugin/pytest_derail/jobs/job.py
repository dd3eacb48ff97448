"""A job that a test has started, as the test holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_derail.jobs.expectations import Account, close_account, open_account

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.agents.native_job import NativeJob
    from derail.faults.model.plan import Plan
    from derail.faults.model.results import FaultResult
    from derail.scenario.model import JobResult
    from pytest_derail.ranks.stacks import Whereabouts


class Job:
    """A job that a test has started.

    Attributes:
        name: what runs.
        workdir: its logs and its journal.
        is_program: whether its ranks are programs, and no functions of the test.
        where: where its ranks were when something broke off the wait for its end.
    """

    def __init__(self, native: NativeJob, *, timeout: float, is_program: bool) -> None:
        self.name = native.name
        self.is_program = is_program
        self.workdir = native.workdir
        self.account = Account()
        self._native = native
        self._timeout = timeout
        self._result: JobResult | None = None
        self.where: Mapping[int, Whereabouts] = {}

    @property
    def plan(self) -> Plan:
        """The faults of the job."""
        return self._native.plan

    @property
    def journal(self) -> Path:
        """The journal of the run."""
        return self._native.journal

    def wait(self, timeout: float | None = None) -> JobResult:
        """Wait until the job is over, and return its result: the same object every time.

        After ``timeout`` seconds (by default those that the job was started with) it is ended, and has timed out. What
        is returned must then be looked at, by ``assert_timed_out``, or the test fails.
        """
        try:
            seen = self._native.wait(self._timeout if timeout is None else timeout)
        except BaseException:  # of pytest-timeout, a signal handler, Ctrl-C: the ranks still run
            self.look()
            raise
        return self._observed(seen)

    def look(self) -> None:
        """Find out where its ranks are."""
        from pytest_derail.ranks import stacks

        self.where = stacks.look(self._native, list(self._native.pids()))

    def poll(self) -> JobResult | None:
        """Return the result if the job is over, else None."""
        seen = self._native.poll()
        return None if seen is None else self._observed(seen)

    def stop(self, reason: str = "the test asked for it", *, grace: float | None = None) -> None:
        """Ask for the end of the job, and do not wait for it."""
        self._native.stop(reason, grace=grace)

    def close(self) -> JobResult:
        """End the job if it is not over, and return its result."""
        self._native.close()
        return self.wait()

    def pids(self) -> dict[int, int]:
        """The process of each rank."""
        return self._native.pids()

    def log(self, rank: int, stream: str = "stdout") -> Path:
        """The file that a stream of a rank goes to."""
        return self._native.log(rank, stream)

    def faults(self) -> tuple[FaultResult, ...]:
        """What has come of the faults so far."""
        return self._native.fault_results()

    def expect_failure(self, *ranks: int) -> Job:
        """Whatever becomes of these ranks (of any, if none is named) does not fail the test by itself."""
        self.account.failures_seen.update(ranks)
        self.account.any_failure |= not ranks
        return self

    def _observed(self, seen: JobResult) -> JobResult:
        if self._result is None:
            self._result = seen
            open_account(seen, self.account)
        return seen

    def forget(self) -> None:
        """No assertion will be made about it any more."""
        if self._result is not None:
            close_account(self._result)
