"""Elements of a timeline as frozen values: lanes with bands and marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

BandKind: TypeAlias = Literal["alive", "starting", "running", "stopping", "killing", "fault"]
MarkKind: TypeAlias = Literal["start", "line", "fault", "signal", "exit", "value", "stop", "deadline", "left"]


@dataclass(frozen=True, slots=True)
class Band:
    """Interval on a lane.

    Attributes:
        kind: the life of a rank's process; a phase of the launcher; or a fault, from its start until it is undone or
            its rank ends.
        begin: seconds from the beginning of the run.
        end: seconds from the beginning of the run.
        text: description.
        result: of a fault, its result ("injected", "errored" ...; "unknown" if it was not observed).
    """

    kind: BandKind
    begin: float
    end: float
    text: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Moment on a lane.

    Attributes:
        kind: kind of the event.
        at: seconds from the beginning of the run.
        text: description.
    """

    kind: MarkKind
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """Events of one rank, or of the launcher.

    Attributes:
        name: ``rank 2``, ``agent``.
        rank: number of the rank; None for a launcher.
        fate: description of its end; empty if unknown.
        telling: whether it is of special interest: a fault hit it, it failed by itself, or it left something.
        failed: whether it failed by itself, or had to be abandoned.
        bands: the intervals, in the order of their beginnings.
        marks: the moments, in order.
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
    """Timeline of a run.

    Attributes:
        seconds: from the first event to the last.
        lanes: launchers first, then ranks by number.
        wall: seconds since 1970 at which the run began; 0 if unknown.
    """

    seconds: float = 0.0
    lanes: tuple[Lane, ...] = ()
    wall: float = 0.0
