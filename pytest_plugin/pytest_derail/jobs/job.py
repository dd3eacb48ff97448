"""Job that a test has started, as the test sees it."""

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
    """Job that a test has started.

    Attributes:
        name: the program or function that runs.
        workdir: folder with its logs and its journal.
        is_program: whether its ranks run a program, not a function of the test.
        where: stacks of its ranks at the time when an exception interrupted the wait.
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
        """Faults of the job."""
        return self._native.plan

    @property
    def journal(self) -> Path:
        """Journal of the run."""
        return self._native.journal

    def wait(self, timeout: float | None = None) -> JobResult:
        """Wait until the job is over, and return its result: the same object every time.

        After ``timeout`` seconds (by default the job's own limit) the job is ended, and has timed out. The test then
        fails unless it checks that by ``assert_timed_out``.
        """
        try:
            seen = self._native.wait(self._timeout if timeout is None else timeout)
        except BaseException:  # from pytest-timeout, a signal handler, Ctrl-C: the ranks still run
            self.look()
            raise
        return self._observed(seen)

    def look(self) -> None:
        """Take stacks of the ranks."""
        from pytest_derail.ranks import stacks

        self.where = stacks.look(self._native, list(self._native.pids()), "interrupt")

    def poll(self) -> JobResult | None:
        """Return the result if the job is over, else None."""
        seen = self._native.poll()
        return None if seen is None else self._observed(seen)

    def stop(
        self, reason: str = "the test asked for it", *, grace: float | None = None, timed_out: bool = False
    ) -> None:
        """Request the end of the job, without waiting for it."""
        self._native.stop(reason, grace=grace, timed_out=timed_out)

    def close(self) -> JobResult:
        """End the job if it still runs, and return its result."""
        self._native.close()
        return self.wait()

    def pids(self) -> dict[int, int]:
        """Return the process id of each rank."""
        return self._native.pids()

    def log(self, rank: int, stream: str = "stdout") -> Path:
        """Return the log file of a rank's stream."""
        return self._native.log(rank, stream)

    def faults(self) -> tuple[FaultResult, ...]:
        """Return the results of the faults so far."""
        return self._native.fault_results()

    def expect_failure(self, *ranks: int) -> Job:
        """Expect failures of these ranks (of any rank, if none is named), so that they do not fail the test."""
        self.account.failures_seen.update(ranks)
        self.account.any_failure |= not ranks
        return self

    def _observed(self, seen: JobResult) -> JobResult:
        if self._result is None:
            self._result = seen
            open_account(seen, self.account)
        return seen

    def forget(self) -> None:
        """End the recording of assertions: none will follow."""
        if self._result is not None:
            close_account(self._result)
