"""The only source of time in derail, so that tests can replace it.

The functions of ``time`` are saved when this module is imported. Libraries that freeze the time (freezegun,
time-machine) replace ``time.time`` and ``time.monotonic``, also in modules that have imported them. They also change
the result of ``clock_gettime(CLOCK_REALTIME)``. A launcher that read those clocks would wait for ever.

The reasons are in docs/adr/one-clock.md.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Source of time: ``now`` for decisions, ``wall`` for people to read."""

    def now(self) -> float:
        """Return seconds that never go backwards (CLOCK_MONOTONIC)."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch, which may be stepped: for display, and to compare with times of files."""
        ...


_read = time.clock_gettime
_STEADY = getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC)
"""The clock behind ``time.monotonic``: macOS has a separate one for that."""
_COARSE = (5, 6) if hasattr(time, "CLOCK_TAI") else None
"""CLOCK_REALTIME_COARSE and CLOCK_MONOTONIC_COARSE of linux/time.h, for which ``time`` has no names; only Linux has
CLOCK_TAI. The kernel moves both at the same tick."""


class SystemClock:
    """The clock of the machine, even if a test has frozen the time."""

    def now(self) -> float:
        """Return seconds of CLOCK_MONOTONIC."""
        return _read(_STEADY)

    def wall(self) -> float:
        """Return seconds since the epoch.

        time-machine changes CLOCK_REALTIME for every caller in C, and leaves the coarse clocks alone. Their difference
        is exactly how far the time of day is ahead of the monotonic clock.
        """
        if _COARSE is None:
            return _read(time.CLOCK_REALTIME)
        while True:
            before, wall = _read(_COARSE[1]), _read(_COARSE[0])
            if _read(_COARSE[1]) == before:  # else the kernel's tick fell between the two readings
                return _read(_STEADY) + (wall - before)


class FakeClock:
    """A clock that moves only by ``advance``."""

    def __init__(self, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """Return the fake monotonic time."""
        return self._now

    def wall(self) -> float:
        """Return the fake wall-clock time, which advances together with ``now``."""
        return self._wall + self._now

    def advance(self, seconds: float) -> None:
        """Advance by ``seconds`` (not negative: this clock is monotonic)."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot move by {seconds} s; advance by 0 or more")
        self._now += seconds


SYSTEM_CLOCK = SystemClock()
