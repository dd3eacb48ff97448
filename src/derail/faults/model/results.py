"""What came of each fault on each rank: the values that driver, verdict and reports speak in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from derail.faults.model.plan import Fault


@dataclass(frozen=True, slots=True)
class Injected:
    """It happened, and ``evidence`` says what was seen on the target."""

    evidence: str

    def __str__(self) -> str:
        return f"injected: {self.evidence}"


@dataclass(frozen=True, slots=True)
class NotReached:
    """It was never due, or its rank had ended before it could act."""

    reason: str

    def __str__(self) -> str:
        return f"not reached: {self.reason}"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """It cannot be done here."""

    reason: str

    def __str__(self) -> str:
        return f"unavailable: {self.reason}"


@dataclass(frozen=True, slots=True)
class Errored:
    """It was tried, and did not have the effect that it must have."""

    what: str

    def __str__(self) -> str:
        return f"errored: {self.what}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """It was started, and nobody saw what came of it."""

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
    """What came of one fault on one rank.

    Attributes:
        fault: the fault, as planned.
        rank: the rank that it was aimed at, -1 if at the agent; None if it could not be aimed at any.
        result: what came of it.
        at: monotonic seconds at which it acted; None if it never did.
    """

    fault: Fault
    rank: int | None
    result: Result
    at: float | None = None

    @property
    def whom(self) -> str:
        """``rank 2`` or ``the agent``; empty if it could not be aimed at any."""
        return "" if self.rank is None else f"rank {self.rank}" if self.rank >= 0 else "the agent"

    @property
    def injected(self) -> bool:
        """Whether it verifiably happened."""
        return isinstance(self.result, Injected)

    @property
    def status(self) -> str:
        """``injected``, ``not_reached``, ``unavailable``, ``errored`` or ``unknown``."""
        return STATUS[type(self.result)]

    @property
    def detail(self) -> str:
        """The evidence, or the reason."""
        return str(self.result).partition(": ")[2]

    def __str__(self) -> str:
        """``signal-3fa9c1 on rank 2: injected: ...``."""
        return f"{self.fault.id}{f' on {self.whom}' if self.whom else ''}: {self.result}"
