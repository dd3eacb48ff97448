"""Clocks and pause of the runtime, held before the program of the rank can put something in their place.

Programs freeze ``time.monotonic`` (freezegun), change CLOCK_REALTIME (time-machine) and replace ``time.sleep``; what a
fault waits for still passes. ``derail.model.clock`` does this for the launcher, and is not there in a Python
without derail. Functions of C only: a signal handler finds no frame of them (see ``frames.is_within``).
"""

from __future__ import annotations

import time
from functools import partial

_COARSE = 5 if hasattr(time, "CLOCK_TAI") else time.CLOCK_REALTIME
"""CLOCK_REALTIME_COARSE of linux/time.h, for which ``time`` has no name; only Linux has CLOCK_TAI."""

COARSE_STEP_S = 0.01
"""Seconds by which ``wall`` may be behind: the longest tick of a kernel."""

monotonic = partial(time.clock_gettime, getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC))
"""Return the seconds of CLOCK_MONOTONIC, as the launcher reads them."""

wall = partial(time.clock_gettime, _COARSE)
"""Return the seconds since the epoch."""

sleep = time.sleep  # noqa: TID251 - each caller says why it has nothing to wait for
