"""How long the controller waits for the ranks of a test, and what it has to show if it is interrupted meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from pytest_derail.ranks.outer_timeout import OuterTimeout
    from pytest_derail.ranks.result import Verdict

START_SECONDS = 60.0
"""How long ranks may take to start and to import the test besides: the time of a test begins with its body, however
busy the machine is."""

SETTLE_SECONDS = 1.0
"""How long the other ranks have to come to their own end when the test did not pass in one. Those that wait for that
one never do."""

SPARE_SECONDS = 30.0
"""How long it may take besides to ask ranks where they are, and to end them."""


class BrokenOff(BaseException):
    """The controller left while ranks ran, which have been ended.

    Attributes:
        cause: by what.
        verdict: what was known of the ranks then.
    """

    def __init__(self, cause: BaseException, verdict: Verdict) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.verdict = verdict


class TimeLimit:
    """The time limit of one test: its own, and that of pytest-timeout.

    Attributes:
        timeout: seconds that the test may take from the moment when all ranks have begun.
    """

    def __init__(self, timeout: float, outer: OuterTimeout) -> None:
        self.timeout = timeout
        self._outer = outer
        self._began_at: float | None = None
        self._deadline = SYSTEM_CLOCK.now() + START_SECONDS + timeout
        self._outer_deadline = self._settled = float("inf")

    @property
    def seconds(self) -> float:
        """How long to wait for the next thing to happen."""
        return min(self._deadline, self._outer_deadline, self._settled) - SYSTEM_CLOCK.now()

    @property
    def used(self) -> float:
        """Seconds since all ranks have begun."""
        return 0.0 if self._began_at is None else SYSTEM_CLOCK.now() - self._began_at

    @property
    def timed_out(self) -> bool:
        """Whether the test takes too long."""
        return SYSTEM_CLOCK.now() >= min(self._deadline, self._outer_deadline)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.timed_out or SYSTEM_CLOCK.now() >= self._settled

    @property
    def passed_limit(self) -> str:
        """The limit of pytest-timeout that has passed, in words; empty if none has."""
        return self._outer.limit if SYSTEM_CLOCK.now() >= self._outer_deadline else ""

    @property
    def reason(self) -> str:
        """Why a job that takes too long is stopped."""
        return self.passed_limit or f"it was not over after {self.timeout:g} s"

    def begin(self) -> None:
        """All ranks have begun with the test."""
        if self._began_at is None:
            now = self._began_at = SYSTEM_CLOCK.now()
            self._deadline, self._outer_deadline = now + self.timeout, now + self._outer.left

    def settle(self, seconds: float) -> None:
        """Give the other ranks this number of seconds, after the test did not pass in one rank."""
        self._settled = min(self._settled, SYSTEM_CLOCK.now() + seconds)

    def stand_still(self, seconds: float) -> None:
        """Extend the deadlines by the seconds that a debugger has spent in a rank."""
        if seconds:
            self._deadline += seconds
            self._outer_deadline = float("inf")  # as pytest-timeout itself does
