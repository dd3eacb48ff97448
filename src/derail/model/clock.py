"""The one place that time comes from, so that tests can put a fake in."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from. ``now`` decides; ``wall`` is for people to read."""

    def now(self) -> float:
        """Seconds that never go backwards (CLOCK_MONOTONIC)."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, which may be stepped: shown, and held against the times of files."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """The fake monotonic time."""
        return self._now

    def wall(self) -> float:
        """The fake wall-clock time; it moves along with ``now``."""
        return self._wall + self._now

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds`` (not negative: this clock is monotonic)."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot move by {seconds} s; advance by 0 or more")
        self._now += seconds


SYSTEM_CLOCK = SystemClock()
