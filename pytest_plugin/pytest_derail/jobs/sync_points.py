"""``derail.hold`` and ``derail.barrier``: points at which the ranks of a test's jobs wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from derail.faults.engine.sync_points import Gate
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
        self._gates: list[Gate] = []
        self._asked = False
        self._open: set[int] | None = set()
        self.new_gate().aim(range(max(ranks or (0,)) + 1))  # raises an error here, and not when a job starts
        self._gates.clear()

    def __str__(self) -> str:
        """Return a description of the point."""
        return str(self._gates[0]) if self._gates else str(self._how[1])

    def new_gate(self) -> Gate:
        """Return a gate for one more job."""
        name, at, ranks, together = self._how
        gate = Gate(name, at, ranks=ranks, together=together)
        if self._open is None or self._open:
            gate.release(self._open)
        self._gates.append(gate)
        return gate

    def wait(self, timeout: float | None = None) -> frozenset[int]:
        """Wait until all ranks have reached the point, in each job; return the ranks.

        Raises:
            GateError: if a rank ended without reaching it.
            TimeoutError: if they have not reached it after ``timeout`` seconds; by default the time limit of a job.
        """
        __tracebackhide__ = True
        self._asked = True
        seconds = self._timeout if timeout is None else timeout
        deadline = SYSTEM_CLOCK.now() + seconds
        if not self._gates:
            raise RuntimeError("hold: no job was started after it. Start the job first, then wait")
        reached = [gate.wait(max(0.0, deadline - SYSTEM_CLOCK.now())) for gate in self._gates]
        return frozenset().union(*reached)

    @property
    def came(self) -> frozenset[int]:
        """Ranks that have reached the point."""
        return frozenset().union(*(gate.came for gate in self._gates))

    def release(self, *ranks: int) -> None:
        """Release these ranks (all, if none is named), now and whenever they reach the point."""
        if not ranks:
            self._open = None
        elif self._open is not None:
            self._open.update(ranks)
        for gate in self._gates:
            gate.release(ranks or None)

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
        for gate in self._gates:
            missing = gate.missing
            if gate.over and missing and not gate.came:
                reasons = ", ".join(f"rank {rank} {reason}" for rank, reason in missing.items())
                yield f"{gate}: no rank arrived: {reasons}"
