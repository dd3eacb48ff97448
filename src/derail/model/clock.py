"""The one place that time comes from, so that tests can put a fake in.

The functions of ``time`` are held here as they are when this module is imported. Libraries that freeze the time
(freezegun, time-machine) replace ``time.time`` and ``time.monotonic``, also in modules that have imported them, and
what ``clock_gettime`` says of CLOCK_REALTIME. A launcher that read those would wait for ever.
"""

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


_read = time.clock_gettime
_STEADY = getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC)
"""The clock behind ``time.monotonic``: macOS has one of its own for that."""
_COARSE = (5, 6) if hasattr(time, "CLOCK_TAI") else None
"""CLOCK_REALTIME_COARSE and CLOCK_MONOTONIC_COARSE of linux/time.h, for which ``time`` has no names; only Linux has
CLOCK_TAI. The kernel moves both at the same tick."""


class SystemClock:
    """The clock of the machine, whatever a test has frozen."""

    def now(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return _read(_STEADY)

    def wall(self) -> float:
        """Seconds since the epoch.

        time-machine changes CLOCK_REALTIME for every caller in C, and leaves the coarse clocks alone. Those say exactly
        how far the time of day is ahead of the monotonic clock.
        """
        if _COARSE is None:
            return _read(time.CLOCK_REALTIME)
        while True:
            before, wall = _read(_COARSE[1]), _read(_COARSE[0])
            if _read(_COARSE[1]) == before:  # else the kernel's tick came in between
                return _read(_STEADY) + (wall - before)


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
