"""``derail.hold`` and ``derail.barrier``: places at which the ranks of a test's jobs stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from derail.faults.engine.sync_points import Gate
from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import TracebackType

    from derail.faults.engine.trigger_matcher import Inside


class Hold:
    """A place at which ranks stay; of each job that the test starts after it has asked for it.

    Leaving a ``with`` block lets the ranks go.
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
        self.new_gate().aim(range(max(ranks or (0,)) + 1))  # what cannot be is told here, and not when a job starts
        self._gates.clear()

    def __str__(self) -> str:
        """What it is."""
        return str(self._gates[0]) if self._gates else str(self._how[1])

    def new_gate(self) -> Gate:
        """For one more job."""
        name, at, ranks, together = self._how
        gate = Gate(name, at, ranks=ranks, together=together)
        if self._open is None or self._open:
            gate.release(self._open)
        self._gates.append(gate)
        return gate

    def wait(self, timeout: float | None = None) -> frozenset[int]:
        """Wait until all ranks are there (or have been), in each job; which those are.

        Raises:
            GateError: if one ended without coming there.
            TimeoutError: if they are not there after ``timeout`` seconds; by default those that a job may take.
        """
        __tracebackhide__ = True
        self._asked = True
        seconds = self._timeout if timeout is None else timeout
        deadline = SYSTEM_CLOCK.now() + seconds
        if not self._gates:
            raise RuntimeError("no job was started after this hold: start it first, then wait")
        came = [gate.wait(max(0.0, deadline - SYSTEM_CLOCK.now())) for gate in self._gates]
        return frozenset().union(*came)

    @property
    def came(self) -> frozenset[int]:
        """The ranks that are there, or have been."""
        return frozenset().union(*(gate.came for gate in self._gates))

    def release(self, *ranks: int) -> None:
        """Let these ranks go on (all, if none is named), now and whenever they come here."""
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
        """Let all ranks go on."""
        self.release()

    def unreached(self) -> Iterator[str]:
        """What shows that it held nobody back: a name with a typo, most likely. Nothing if the test has waited for it,
        which has told."""
        if self._asked:
            return
        for gate in self._gates:
            missing = gate.missing
            if gate.over and missing and not gate.came:
                yield f"{gate}: no rank arrived: " + ", ".join(f"rank {rank} {how}" for rank, how in missing.items())
