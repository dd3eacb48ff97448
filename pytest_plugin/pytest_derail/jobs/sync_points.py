"""``derail.hold`` and ``derail.barrier``: points at which the ranks of a test's jobs wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from derail.faults.engine.sync_points import SyncPoint
from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import TracebackType

    from derail.faults.engine.trigger_matcher import Inside


class Hold:
    """Point at which ranks wait, in each job that the test starts after creating it.

    Leaving a ``with`` block releases the ranks.
    """

    def __init__(
        self, name: str, at: str | Inside, *, ranks: Collection[int] | None, together: bool, timeout: float
    ) -> None:
        self.at = at
        self._how = (name, at, ranks, together)
        self._timeout = timeout
        self._sync_points: list[SyncPoint] = []
        self._asked = False
        self._open: set[int] | None = set()
        self.new_sync_point().aim(range(max(ranks or (0,)) + 1))  # raises an error here, and not when a job starts
        self._sync_points.clear()

    def __str__(self) -> str:
        """Return a description of the point."""
        return str(self._sync_points[0]) if self._sync_points else str(self._how[1])

    def new_sync_point(self) -> SyncPoint:
        """Return a sync_point for one more job."""
        name, at, ranks, together = self._how
        sync_point = SyncPoint(name, at, ranks=ranks, together=together)
        if self._open is None or self._open:
            sync_point.release(self._open)
        self._sync_points.append(sync_point)
        return sync_point

    def wait(self, timeout: float | None = None) -> frozenset[int]:
        """Wait until all ranks have reached the point, in each job; return the ranks.

        Raises:
            SyncPointError: if a rank ended without reaching it.
            TimeoutError: if they have not reached it after ``timeout`` seconds; by default the time limit of a job.
        """
        __tracebackhide__ = True
        self._asked = True
        seconds = self._timeout if timeout is None else timeout
        deadline = SYSTEM_CLOCK.now() + seconds
        if not self._sync_points:
            raise RuntimeError("hold: no job was started after it. Start the job first, then wait")
        reached = [sync_point.wait(max(0.0, deadline - SYSTEM_CLOCK.now())) for sync_point in self._sync_points]
        return frozenset().union(*reached)

    @property
    def came(self) -> frozenset[int]:
        """Ranks that have reached the point."""
        return frozenset().union(*(sync_point.came for sync_point in self._sync_points))

    def release(self, *ranks: int) -> None:
        """Release these ranks (all, if none is named), now and whenever they reach the point."""
        if not ranks:
            self._open = None
        elif self._open is not None:
            self._open.update(ranks)
        for sync_point in self._sync_points:
            sync_point.release(ranks or None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release all ranks."""
        self.release()

    def unreached(self) -> Iterator[str]:
        """Yield a message for each job in which the point held no rank, most likely because of a misspelt name.

        Yield nothing if the test has waited for the point, because ``wait`` raises an error then.
        """
        if self._asked:
            return
        for sync_point in self._sync_points:
            missing = sync_point.missing
            if sync_point.over and missing and not sync_point.came:
                reasons = ", ".join(f"rank {rank} {reason}" for rank, reason in missing.items())
                yield f"{sync_point}: no rank arrived: {reasons}"
