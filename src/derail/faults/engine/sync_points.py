"""Sync points: places where ranks wait until the test releases them, or until all of them have arrived.

A rank that reaches one reports it in the journal and waits, as for a fault; the driver writes when it may continue. A
sync point is not a fault and breaks nothing. It only fixes the order of events.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from derail.faults.engine.rank_plan import watch_at
from derail.faults.engine.trigger_matcher import Inside
from derail.faults.model.occurrences import Hits
from derail.faults.model.triggers import Point
from derail.model.clock import SYSTEM_CLOCK
from derail.model.input_error import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from derail.faults.engine.trigger_matcher import Reached
    from derail.faults.model.triggers import Data

PATIENCE = 3600.0
"""Maximum seconds that a rank waits; the timeout of its job is shorter, and a rank without a supervisor ends."""


class SyncPointError(RuntimeError):
    """Failed wait: ranks did not reach a sync point and never will. The message says which, and why."""


class SyncPoint:
    """One sync point in the ranks of one job. Its methods may be called from any thread.

    Args:
        name: unique among the sync points of a job.
        at: the name of a point, or another trigger that only the rank can detect: a call, an import, a signal.
        ranks: the ranks that wait there; None for all ranks of the job.
        together: whether all ranks continue as soon as the last one has arrived.

    Raises:
        InputError: if ``at`` is a trigger that ranks cannot detect.
    """

    def __init__(
        self, name: str, at: str | Inside, *, ranks: Collection[int] | None = None, together: bool = False
    ) -> None:
        self.name = name
        self.at = Point(at) if isinstance(at, str) else at
        if not isinstance(self.at, Inside):
            raise InputError(f"expected a point or an in-rank trigger (when.call, when.import_of ...), got: {self.at}")
        self.together = together
        self._wanted = None if ranks is None else frozenset(ranks)
        self._ranks: frozenset[int] = self._wanted or frozenset()
        self._lock = threading.RLock()  # entering a Condition itself may leave it locked if a signal handler raises
        self._changed = threading.Condition(self._lock)
        self._there: set[int] = set()
        self._came: set[int] = set()
        self._free: set[int] = set()
        self._all_free = False
        self._ended: dict[int, str] = {}
        self._over = False

    def __str__(self) -> str:
        """Return the kind of wait and its place."""
        return f"{'barrier' if self.together else 'hold'} {self.at}"

    @property
    def came(self) -> frozenset[int]:
        """Ranks that have arrived so far."""
        with self._lock:
            return frozenset(self._came)

    @property
    def over(self) -> bool:
        """Whether the job is over, so that no further rank can arrive."""
        return self._over

    @property
    def missing(self) -> dict[int, str]:
        """Ranks that have not arrived, with the reason for each."""
        with self._lock:
            return self._missing()

    def aim(self, ranks: Sequence[int]) -> None:
        """Set the ranks of the job.

        Raises:
            InputError: if a rank of this sync point is not among them.
        """
        strangers = sorted((self._wanted or frozenset()) - frozenset(ranks))
        if strangers:
            raise InputError(f"{self}: there is no rank {', '.join(map(str, strangers))}")
        self._ranks = frozenset(ranks) if self._wanted is None else self._wanted

    def watch(self, rank: int) -> Data | None:
        """Return what the runtime in a rank has to watch; None if this rank is not concerned."""
        if rank not in self._ranks:
            return None
        hits = [Hits.read(getattr(self.at, "hit", 1))]
        return {"number": 0, "fault": self.name, "patience": PATIENCE, **watch_at(self.at, hits)}

    def wait(self, timeout: float) -> frozenset[int]:
        """Wait until all ranks have arrived (some may have left again), and return them.

        Raises:
            SyncPointError: if a rank ended before it arrived.
            TimeoutError: if they do not arrive in time.
        """
        __tracebackhide__ = True
        deadline = SYSTEM_CLOCK.now() + timeout
        with self._lock:
            while not self._ranks or not self._ranks <= self._came:
                missing = self._missing()
                waiting = f"{self}: " + ", ".join(f"rank {rank} {what}" for rank, what in missing.items())
                if self._over or self._ended.keys() & missing:
                    raise SyncPointError(waiting if missing else f"{self}: no job was started")
                left = deadline - SYSTEM_CLOCK.now()
                if left <= 0:
                    raise TimeoutError(f"{waiting} within {timeout:.3g} s")
                self._changed.wait(left)
            return frozenset(self._came)

    def release(self, ranks: Collection[int] | None = None) -> None:
        """Let the given ranks continue, now and at later arrivals; all ranks if None."""
        with self._lock:
            self._all_free |= ranks is None
            self._free.update(ranks or ())

    # ---- the driver's side, in the thread of the job

    def arrive(self, rank: int) -> None:
        """Record that a rank has arrived and waits."""
        with self._lock:
            self._there.add(rank)
            self._came.add(rank)
            if self.together and self._there >= self._ranks - self._ended.keys():
                self._there.clear()
            self._changed.notify_all()

    def end(self, rank: int, how: str) -> None:
        """Record that a rank has exited or its function has returned: its peers no longer wait for it."""
        with self._lock:
            self._ended.setdefault(rank, how)
            if self.together and self._there >= self._ranks - self._ended.keys():
                self._there.clear()
            self._changed.notify_all()

    def finish(self) -> None:
        """Record that the job is over."""
        with self._lock:
            self._over = True
            self._changed.notify_all()

    def keeps(self, rank: int) -> bool:
        """Return whether a rank must keep waiting."""
        with self._lock:
            if rank in self._there and not self._is_free(rank):
                return True
            self._there.discard(rank)
            return False

    def is_open(self, rank: int) -> bool:
        """Return whether a rank need not wait here any more."""
        with self._lock:
            return self._is_free(rank)

    def _is_free(self, rank: int) -> bool:
        return self._all_free or rank in self._free

    def _missing(self) -> dict[int, str]:
        found = {}
        for rank in sorted(self._ranks - self._came):
            ended = self._ended.get(rank)
            found[rank] = "did not arrive" if ended is None else f"{ended} before it arrived"
        return found


class SyncPoints:
    """All sync points of one job, from the driver's view."""

    def __init__(self, sync_points: Collection[SyncPoint]) -> None:
        self._sync_points = {sync_point.name: sync_point for sync_point in sync_points}

    def watches(self, rank: int) -> list[Data]:
        """Return what a rank has to watch."""
        return [place for sync_point in self._sync_points.values() if (place := sync_point.watch(rank)) is not None]

    def aim(self, ranks: Sequence[int]) -> None:
        """Set the ranks of the job.

        Raises:
            InputError: if a sync point names other ranks.
        """
        for sync_point in self._sync_points.values():
            sync_point.aim(ranks)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._sync_points)

    def arrive(self, reached: Reached) -> None:
        """Record that a rank has reached a watched place."""
        if reached.fault in self._sync_points:
            self._sync_points[reached.fault].arrive(reached.rank)

    def keep(self, reached: Reached) -> bool:
        """Return whether a rank must keep waiting at this place."""
        return reached.fault in self._sync_points and self._sync_points[reached.fault].keeps(reached.rank)

    def again(self, reached: Reached) -> bool:
        """Return whether a rank has to report its next arrival."""
        return reached.fault in self._sync_points and not self._sync_points[reached.fault].is_open(reached.rank)

    def end(self, rank: int, how: str) -> None:
        """Record that a rank has exited or its function has returned."""
        for sync_point in self._sync_points.values():
            sync_point.end(rank, how)

    def finish(self) -> None:
        """Record that the job is over."""
        for sync_point in self._sync_points.values():
            sync_point.finish()
