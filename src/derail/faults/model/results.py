"""Results of faults on ranks, as used by driver, verdict and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from derail.faults.model.plan import Fault


@dataclass(frozen=True, slots=True)
class Injected:
    """Result of a fault that took effect; ``evidence`` is the proof from the target."""

    evidence: str

    def __str__(self) -> str:
        return f"injected: {self.evidence}"


@dataclass(frozen=True, slots=True)
class NotReached:
    """Result of a fault that was never due, or with a rank that ended before the injection."""

    reason: str

    def __str__(self) -> str:
        return f"not reached: {self.reason}"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Result of a fault that is impossible on this machine or in this rank."""

    reason: str

    def __str__(self) -> str:
        return f"unavailable: {self.reason}"


@dataclass(frozen=True, slots=True)
class Errored:
    """Result of a fault that was attempted without its required effect."""

    what: str

    def __str__(self) -> str:
        return f"errored: {self.what}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """Result of a fault that started, without a known outcome."""

    why: str

    def __str__(self) -> str:
        return f"unknown: {self.why}"


Result: TypeAlias = Injected | NotReached | Unavailable | Errored | Unknown
STATUS: dict[type[Result], str] = {
    Injected: "injected",
    NotReached: "not_reached",
    Unavailable: "unavailable",
    Errored: "errored",
    Unknown: "unknown",
}


@dataclass(frozen=True, slots=True)
class FaultResult:
    """Result of one fault on one rank.

    Attributes:
        fault: the fault, as planned.
        rank: the target rank, -1 for the agent; None if no target could be resolved.
        result: the result.
        at: monotonic time of the first injection in seconds; None if there was none.
    """

    fault: Fault
    rank: int | None
    result: Result
    at: float | None = None

    @property
    def whom(self) -> str:
        """Target: ``rank 2`` or ``the agent``; empty if no target could be resolved."""
        return "" if self.rank is None else f"rank {self.rank}" if self.rank >= 0 else "the agent"

    @property
    def injected(self) -> bool:
        """Whether it verifiably took effect."""
        return isinstance(self.result, Injected)

    @property
    def status(self) -> str:
        """One of ``injected``, ``not_reached``, ``unavailable``, ``errored`` and ``unknown``."""
        return STATUS[type(self.result)]

    @property
    def detail(self) -> str:
        """Evidence, or reason."""
        return str(self.result).partition(": ")[2]

    def __str__(self) -> str:
        """Return a line such as ``signal-3fa9c1 on rank 2: injected: ...``."""
        return f"{self.fault.id}{f' on {self.whom}' if self.whom else ''}: {self.result}"
