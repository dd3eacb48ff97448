"""What a timeline is made of: lanes with bands and marks, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

BandKind: TypeAlias = Literal["alive", "starting", "running", "stopping", "killing", "fault"]
MarkKind: TypeAlias = Literal["start", "line", "fault", "signal", "exit", "value", "stop", "deadline", "left"]


@dataclass(frozen=True, slots=True)
class Band:
    """Something that lasts.

    Attributes:
        kind: a rank's process lives; a phase of the supervisor; a fault, from its start until it is undone or its rank
            ends.
        begin: seconds from the beginning of the run.
        end: the same.
        text: what, for people.
        result: of a fault: what came of it ("injected", "errored" ...; "unknown" if nobody saw).
    """

    kind: BandKind
    begin: float
    end: float
    text: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happens at once.

    Attributes:
        kind: what.
        at: seconds from the beginning of the run.
        text: what, for people.
    """

    kind: MarkKind
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """All that happens to one rank, or to the supervisor.

    Attributes:
        name: ``rank 2``, ``agent``.
        rank: whose; None for a supervisor.
        fate: how it ended, in words; empty if that is not known.
        telling: whether there is more to it than to the others: it was hit, failed by itself, or left something.
        failed: whether it failed by itself, or had to be abandoned.
        bands: in the order in which they began.
        marks: in the order in which they happened.
    """

    name: str
    rank: int | None = None
    fate: str = ""
    telling: bool = False
    failed: bool = False
    bands: tuple[Band, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run.

    Attributes:
        seconds: from the first thing that happened to the last.
        lanes: supervisors first, then ranks by number.
        wall: seconds since 1970 at which the run began; 0 if that is not known.
    """

    seconds: float = 0.0
    lanes: tuple[Lane, ...] = ()
    wall: float = 0.0
