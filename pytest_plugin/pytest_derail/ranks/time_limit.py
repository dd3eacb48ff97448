"""Time limits for the ranks of a test, and the controller's state when it is interrupted while ranks run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from pytest_derail.ranks.outer_timeout import OuterTimeout
    from pytest_derail.ranks.result import Verdict

START_SECONDS = 60.0
"""Seconds for ranks to start and to import the test. They are extra: the time of a test begins with its body, however
busy the machine is."""

SETTLE_SECONDS = 1.0
"""Seconds for the other ranks to end by themselves after the test did not pass in one. Ranks that wait for that one
never do."""

SPARE_SECONDS = 30.0
"""Extra seconds to take stacks of ranks and to end them."""


class BrokenOff(BaseException):
    """Interruption of the controller while ranks ran; the ranks have been ended.

    Attributes:
        cause: the exception that interrupted it.
        verdict: result of the ranks at that time.
    """

    def __init__(self, cause: BaseException, verdict: Verdict) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.verdict = verdict


class TimeLimit:
    """Time limit of one test: its own, and that of pytest-timeout.

    Attributes:
        timeout: seconds that the test may take from the moment when all ranks have begun.
    """

    def __init__(self, timeout: float, outer: OuterTimeout) -> None:
        self.timeout = timeout
        self._outer = outer
        self._began_at: float | None = None
        self._stood_still = 0.0
        self._is_lifted = False
        self._deadline = SYSTEM_CLOCK.now() + START_SECONDS + timeout
        self._outer_deadline = self._settled = float("inf")

    @property
    def seconds(self) -> float:
        """Seconds to wait for the next message."""
        if self._is_lifted:
            return self._settled - SYSTEM_CLOCK.now()
        return min(self._deadline, self._outer_deadline, self._settled) - SYSTEM_CLOCK.now()

    @property
    def used(self) -> float:
        """Seconds since all ranks have begun, without those of debugging."""
        return 0.0 if self._began_at is None else SYSTEM_CLOCK.now() - self._began_at - self._stood_still

    @property
    def timed_out(self) -> bool:
        """Whether the test has exceeded a limit."""
        return not self._is_lifted and SYSTEM_CLOCK.now() >= min(self._deadline, self._outer_deadline)

    @property
    def is_over(self) -> bool:
        """Whether to stop waiting."""
        return self.timed_out or SYSTEM_CLOCK.now() >= self._settled

    @property
    def passed_limit(self) -> str:
        """Description of pytest-timeout's limit if the test has exceeded it; else empty."""
        return self._outer.limit if SYSTEM_CLOCK.now() >= self._outer_deadline else ""

    @property
    def reason(self) -> str:
        """Reason for stopping a job that takes too long."""
        return self.passed_limit or f"the test was not over after {self.timeout:g} s"

    def begin(self) -> None:
        """Start the time of the test, when all ranks have begun."""
        if self._began_at is None:
            now = self._began_at = SYSTEM_CLOCK.now()
            self._deadline, self._outer_deadline = now + self.timeout, now + self._outer.left

    def settle(self, seconds: float) -> None:
        """Give the other ranks this number of seconds, after the test did not pass in one rank."""
        self._settled = min(self._settled, SYSTEM_CLOCK.now() + seconds)

    def lift(self) -> None:
        """Apply no limit: a user debugs ranks in an IDE."""
        self._is_lifted = True

    def stand_still(self, seconds: float) -> None:
        """Extend the deadlines by the seconds for which ranks were debugged."""
        self._deadline += seconds
        self._outer_deadline += seconds
        self._settled += seconds
        if self._began_at is not None:
            self._stood_still += seconds
