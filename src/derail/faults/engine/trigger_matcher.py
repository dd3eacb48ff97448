"""Matcher of one trigger, for one fault on one rank: it takes the events of a job and fires.

No I/O. Events inside ranks arrive as ``Reached``. Each watched place in a program has a number, in the order of
``walk``, that is the same in the rank and in the driver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from derail.faults.model.occurrences import Hits
from derail.faults.model.plan import decide
from derail.faults.model.triggers import (
    After,
    AllOf,
    AnyOf,
    Barrier,
    Call,
    ExitOf,
    ImportOf,
    Line,
    OwnExit,
    Phase,
    Point,
    Probability,
    Restart,
    SignalReceived,
    Start,
    Then,
    Trigger,
    inner,
)
from derail.model.events import Exited, LineSeen, PhaseChanged, Started
from derail.model.exit import signal_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from derail.model.events import Event

Inside: TypeAlias = Point | Call | ImportOf | SignalReceived
"""Triggers that only the rank itself can detect."""
SCALE = 2.0**64


@dataclass(frozen=True, slots=True)
class Reached:
    """Report of a rank: it reached a place that is watched for a fault, for the ``n``-th time."""

    rank: int
    fault: str
    watch: int
    n: int


@dataclass(frozen=True, slots=True)
class Found:
    """Report of a rank: it resolved the place to watch, as the module was imported."""

    rank: int
    fault: str
    watch: int


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Event of a timer that a condition has set."""

    condition: object


Occasion: TypeAlias = "Event | Reached | Found | Elapsed"


@dataclass(frozen=True, slots=True)
class Setting:
    """Job context of a condition.

    Attributes:
        fault: the id of the waiting fault.
        rank: its target rank.
        seed: the seed of the plan.
        ranks: all ranks of the job.
        attempts: the restart number of each rank.
        wake: delivers ``Elapsed`` for a condition after a number of seconds.
    """

    fault: str
    rank: int
    seed: int
    ranks: Sequence[int]
    attempts: Mapping[int, int]
    wake: Callable[[float, object], None]


def passes(seed: int, fault: str, rank: int, trigger: Probability, place: int) -> bool:
    """Return whether a random trigger fires on an occurrence of its ``of``; ``place`` counts them from 1."""
    return place <= trigger.first or decide(seed, fault, rank, place) < trigger.p * SCALE


class Condition:
    """Matching state of a trigger. It starts armed, unless it is a later step of ``then``.

    Attributes:
        trigger: the trigger.
        hit: the number of the last matching occurrence, if occurrences are counted.
    """

    def __init__(self, trigger: Trigger, setting: Setting, numbers: Iterator[int], *, later: bool = False) -> None:
        self.trigger = trigger
        self.hit: int | None = None
        self._setting = setting
        self._later = later
        self._number = next(numbers)
        self._count = 0
        self._hits = Hits.read(getattr(trigger, "hit", 1))
        self._lines = 0
        self._found = False
        self._waits = False
        self._parts = self._make_parts(numbers)
        self._come: set[int] = set()
        self._pattern = re.compile(trigger.regex) if isinstance(trigger, Line) else None

    def _make_parts(self, numbers: Iterator[int]) -> list[Condition]:
        setting, trigger = self._setting, self.trigger
        if isinstance(trigger, Barrier):
            from dataclasses import replace

            first = next(numbers)
            ranks = setting.ranks if trigger.ranks is None else trigger.ranks
            sizes = [count(first) for _ in ranks]
            made = [
                Condition(trigger.of, replace(setting, rank=rank), size, later=self._later)
                for rank, size in zip(ranks, sizes, strict=True)
            ]
            for _ in range(next(sizes[0]) - first - 1):
                next(numbers)
            return made
        return [
            Condition(part, setting, numbers, later=self._later or (isinstance(trigger, Then) and place > 0))
            for place, part in enumerate(inner(trigger))
        ]

    @property
    def looks_inside(self) -> bool:
        """Whether the rank must report a part of it."""
        return isinstance(self.trigger, Inside) or any(part.looks_inside for part in self._parts)

    def arm(self) -> None:
        """Start matching: the previous step of ``then`` has fired."""
        if isinstance(self.trigger, After):
            self._setting.wake(self.trigger.seconds, self)
        for part in self._parts[:1] if isinstance(self.trigger, Then) else self._parts:
            part.arm()

    def hear(self, occasion: Occasion) -> bool:
        """Process an occasion, and return whether the trigger fires on it."""
        if isinstance(occasion, Found):
            self._find(occasion)
            return False
        match self.trigger:
            case Then():
                return self._hear_step(occasion)
            case AllOf() | Barrier():
                return self._hear_all(occasion)
            case AnyOf():
                come = [part for part in self._parts if part.hear(occasion)]
                return bool(come) and self._once(come[0])
            case Probability() as trigger:
                if not self._parts[0].hear(occasion):
                    return False
                self._count += 1
                self.hit, setting = self._parts[0].hit, self._setting
                decided = isinstance(trigger.of, Inside) and not self._later  # the rank's plan lists which
                return decided or passes(setting.seed, setting.fault, setting.rank, trigger, self._count)
            case _:
                return self._hear_event(occasion)

    def _hear_step(self, occasion: Occasion) -> bool:
        place = len(self._come)
        if place == len(self._parts) or not self._parts[place].hear(occasion):
            return False
        self._come.add(place)
        self.hit = self._parts[place].hit
        if place + 1 < len(self._parts):
            self._parts[place + 1].arm()
            return False
        return True

    def _hear_all(self, occasion: Occasion) -> bool:
        before = len(self._come)
        for place, part in enumerate(self._parts):
            if part.hear(occasion):
                self._come.add(place)
                self.hit = part.hit
        return before < len(self._come) == len(self._parts)

    def _once(self, part: Condition) -> bool:
        if self._come:
            return False
        self._come.add(0)
        self.hit = part.hit
        return True

    def _hear_event(self, occasion: Occasion) -> bool:  # noqa: PLR0911 - a case for each trigger
        rank = self._setting.rank
        match self.trigger, occasion:
            case After(seconds=seconds), Started() if occasion.rank == rank and not self._later:
                self._wait(seconds)
                return False
            case After(), Elapsed() if occasion.condition is self:
                self._waits = False
                return True
            case Start(), Started():
                return occasion.rank == rank
            case Restart(n=n), Started():
                return occasion.rank == rank and self._setting.attempts.get(rank, 0) == n
            case (OwnExit(), Exited()):
                return occasion.rank == rank
            case ExitOf(rank=other), Exited():
                return occasion.rank == other
            case SignalReceived(signal=signal), Exited():
                return occasion.rank == rank and occasion.status.signal == signal_number(signal) and self._counts()
            case Phase(phase=phase), PhaseChanged():
                return phase in (occasion.phase, f"{occasion.phase} rank {occasion.rank}")
            case Line() as line, LineSeen():
                return self._hear_line(line, occasion)
            case _, Reached() if self._is_mine(occasion):
                if self._later:
                    return self._counts()
                self.hit = occasion.n  # the rank counts
                return True
            case _:
                return False

    def _wait(self, seconds: float) -> None:
        """Set a timer, unless that of an earlier start is set, which ends first: many restarts would pile them up."""
        if not self._waits:
            self._waits = True
            self._setting.wake(seconds, self)

    def _hear_line(self, line: Line, seen: LineSeen) -> bool:
        whose = self._setting.rank if line.rank is None else line.rank
        if seen.rank != whose or line.stream not in (None, seen.stream):
            return False
        self._lines += 1
        return self._pattern is not None and self._pattern.search(seen.text) is not None and self._counts()

    def _counts(self) -> bool:
        self._count += 1
        self.hit = self._count
        return self._hits.has(self._count)

    def _find(self, found: Found) -> None:
        self._found = self._found or self._is_mine(found)
        for part in self._parts:
            part._find(found)  # noqa: SLF001 - itself

    def _is_mine(self, told: Reached | Found) -> bool:
        mine = (self._setting.rank, self._setting.fault, self._number)
        return isinstance(self.trigger, Inside) and (told.rank, told.fault, told.watch) == mine

    def holds(self, reached: Reached) -> bool:
        """Return whether a rank that has reached a place must wait there for its peers."""
        if isinstance(self.trigger, Barrier):
            return len(self._come) < len(self._parts) and any(
                part._is_mine(reached)  # noqa: SLF001
                for part in self._parts
            )
        return any(part.holds(reached) for part in self._parts)

    def hopeless(self, ended: int) -> bool:
        """Return whether it cannot fire any more because a rank has ended: a barrier misses that rank."""
        if isinstance(self.trigger, Barrier):
            return any(
                part._setting.rank == ended and place not in self._come  # noqa: SLF001
                for place, part in enumerate(self._parts)
            )
        return any(part.hopeless(ended) for part in self._parts if not isinstance(self.trigger, AnyOf))

    def missed(self) -> str:
        """Return what was seen instead of the trigger."""
        trigger = self.trigger
        match trigger:
            case Line():
                whose = self._setting.rank if trigger.rank is None else trigger.rank
                hits = f"{self._count} of {self._hits.first} lines" if self._count else "no line"
                whence = f"{trigger.stream or 'stdout and stderr'} of rank {whose}"
                return f"{hits} of {whence} matched {trigger.regex!r} ({self._lines} lines seen)"
            case After():
                return f"{trigger.seconds:g} s had not passed"
            case Call() if not self._found:
                return f"{trigger.target.partition(':')[0]} was never imported in rank {self._setting.rank}"
            case Restart():
                attempt = self._setting.attempts.get(self._setting.rank, 0)
                return f"expected restart {trigger.n}, got restart {attempt}"
            case AllOf() | Barrier() | Then():
                return next(part for place, part in enumerate(self._parts) if place not in self._come).missed()
            case Probability():
                return f"the random choice was no ({trigger})" if self._count else self._parts[0].missed()
            case _:
                return f"it was never due ({trigger})"


def condition(trigger: Trigger, setting: Setting) -> Condition:
    """Return the matching state of a trigger."""
    return Condition(trigger, setting, count())
