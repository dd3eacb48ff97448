"""Clocks and pause of the runtime, saved before the rank's program can replace them.

Programs freeze ``time.monotonic`` (freezegun), change CLOCK_REALTIME (time-machine) and replace ``time.sleep``; the
deadlines of faults still pass. ``derail.model.clock`` does this for the launcher, and is absent in a Python without
derail. All are C functions: a signal handler finds no frame of them (see ``frames.is_within``).
"""

from __future__ import annotations

import time
from functools import partial

_COARSE = 5 if hasattr(time, "CLOCK_TAI") else time.CLOCK_REALTIME
"""Id of CLOCK_REALTIME_COARSE in linux/time.h, for which ``time`` has no name; only Linux has CLOCK_TAI."""

COARSE_STEP_S = 0.01
"""Maximum seconds by which ``wall`` may lag: the longest tick of a kernel."""

monotonic = partial(time.clock_gettime, getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC))
"""Return the seconds of CLOCK_MONOTONIC, as the launcher reads them."""

wall = partial(time.clock_gettime, _COARSE)
"""Return the seconds since the epoch."""

sleep = time.sleep  # noqa: TID251 - each caller states why there is no event to wait for
