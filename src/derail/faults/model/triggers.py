"""Triggers of faults, as frozen values. ``derail.when`` makes them, ``engine/trigger_matcher`` matches them."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from derail.faults.model.occurrences import Hits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.model.events import Stream

Data: TypeAlias = "bool | int | float | str | list[Data] | dict[str, Data] | None"
"""Values that TOML and JSON can represent."""

PHASES = ("starting", "running", "stopping", "killing", "done")
Hit: TypeAlias = int | str
Side: TypeAlias = Literal["enter", "exit"]


@dataclass(frozen=True, slots=True)
class Start:
    """Start of the rank: before the first line of its program or function (in rank), or when its process exists."""

    def __str__(self) -> str:
        return "at its start"


@dataclass(frozen=True, slots=True)
class After:
    """Seconds after the start of the rank's process or, as a later step of ``then``, after the previous step."""

    seconds: float

    def __str__(self) -> str:
        return f"after {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Line:
    """A line written by the rank that matches ``regex``.

    Attributes:
        regex: searched in the line as by ``re.search``.
        stream: "stdout" or "stderr"; None for both.
        hit: the occurrences that fire it, counted from 1 and per rank.
        rank: the rank that writes the lines; None for the target rank of the fault.
    """

    regex: str
    stream: Stream | None = None
    hit: Hit = 1
    rank: int | None = None

    def __str__(self) -> str:
        stream = "" if self.stream is None else f" of {self.stream}"
        whose = "" if self.rank is None else f" of rank {self.rank}"
        return f"at line {self.regex!r}{stream}{whose}{_hit(self.hit)}"


@dataclass(frozen=True, slots=True)
class Point:
    """A call of ``fail_point(name)`` in the rank."""

    name: str
    hit: Hit = 1

    def __str__(self) -> str:
        return f"at point {self.name!r}{_hit(self.hit)}"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function in the rank; the code needs no change.

    Attributes:
        target: ``package.module:function`` or ``package.module:Class.method``; ``__main__:function`` for the program.
        hit: the occurrences that fire it, counted from 1 in the rank, over all threads.
        at: "enter", before its first line, or "exit", when it returns or raises.
    """

    target: str
    hit: Hit = 1
    at: Side = "enter"

    def __str__(self) -> str:
        return f"at {'call' if self.at == 'enter' else 'the end of a call'} of {self.target}{_hit(self.hit)}"


@dataclass(frozen=True, slots=True)
class ImportOf:
    """The first import of a module in the rank, before the first line of the module."""

    module: str

    def __str__(self) -> str:
        return f"at the import of {self.module}"


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """Arrival of a signal in the rank, before its handler or default action runs.

    For ranks that are not Python, only the signal that ended them is known.
    """

    signal: str
    hit: Hit = 1

    def __str__(self) -> str:
        return f"when it gets {self.signal}{_hit(self.hit)}"


@dataclass(frozen=True, slots=True)
class OwnExit:
    """The exit of the rank's process, before the supervisor acts on it and before the rank's files are read."""

    def __str__(self) -> str:
        return "at its exit"


@dataclass(frozen=True, slots=True)
class ExitOf:
    """The exit of another rank's process, before the supervisor acts on it."""

    rank: int

    def __str__(self) -> str:
        return f"at the exit of rank {self.rank}"


@dataclass(frozen=True, slots=True)
class Restart:
    """Start of the rank's ``n``-th restart (TORCHELASTIC_RESTART_COUNT); 0 is its first start."""

    n: int

    def __str__(self) -> str:
        return f"at the start of restart {self.n}"


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of the job: "starting", "starting rank 2", "running", "stopping", "killing" or "done"."""

    phase: str

    def __str__(self) -> str:
        return f"when the job is {self.phase}"


@dataclass(frozen=True, slots=True)
class Barrier:
    """``of`` in each of several ranks. If it occurs inside ranks, the ranks that arrive early wait for the others.

    Attributes:
        of: the trigger that must fire in each rank.
        ranks: the ranks; None for all ranks of the job.
    """

    of: Trigger
    ranks: tuple[int, ...] | None = None

    def __str__(self) -> str:
        whose = "all ranks" if self.ranks is None else f"ranks {', '.join(map(str, self.ranks))}"
        return f"when {whose} are {self.of}"


@dataclass(frozen=True, slots=True)
class Probability:
    """Each occurrence of ``of``, with a probability.

    The plan's seed, the fault's id, the rank and the number of the occurrence determine each decision.


    Attributes:
        p: the probability, from 0 to 1.
        of: the trigger.
        first: the number of first occurrences that fire it for certain.
    """

    p: float
    of: Trigger = Start()
    first: int = 0

    def __str__(self) -> str:
        certain = "" if not self.first else f", certainly the first {self.first} times"
        return f"{self.of}, with probability {self.p:g}{certain}"


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of several triggers, in any order."""

    triggers: tuple[Trigger, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.triggers))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The first of several triggers to fire."""

    triggers: tuple[Trigger, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.triggers))


@dataclass(frozen=True, slots=True)
class Then:
    """Several triggers one after the other. Each is matched, and counted, only after the previous one has fired.

    For a later step that only the rank can detect (a point, a call), the rank asks the driver at each occurrence, which
    takes milliseconds: unsuitable for a function that is called a thousand times a second.
    """

    steps: tuple[Trigger, ...]

    def __str__(self) -> str:
        return ", then ".join(map(str, self.steps))


Trigger: TypeAlias = (
    Start | After | Line | Point | Call | ImportOf | SignalReceived | OwnExit | ExitOf | Restart | Phase
    | Barrier | Probability | AllOf | AnyOf | Then
)  # fmt: skip


KINDS: dict[str, type[Trigger]] = {
    "start": Start,
    "after": After,
    "line": Line,
    "point": Point,
    "call": Call,
    "import_of": ImportOf,
    "signal_received": SignalReceived,
    "own_exit": OwnExit,
    "exit_of": ExitOf,
    "restart": Restart,
    "phase": Phase,
    "barrier": Barrier,
    "probability": Probability,
    "all_of": AllOf,
    "any_of": AnyOf,
    "then": Then,
}


def word_of(trigger: Trigger) -> str:
    """Return the word of a trigger in TOML and in ``derail.when``."""
    return next(word for word, made in KINDS.items() if type(trigger) is made)


def inner(trigger: Trigger) -> tuple[Trigger, ...]:
    """Return the triggers that a trigger is made of; none for most."""
    match trigger:
        case AllOf(triggers=parts) | AnyOf(triggers=parts) | Then(steps=parts):
            return parts
        case Barrier(of=part) | Probability(of=part):
            return (part,)
        case _:
            return ()


def walk(trigger: Trigger) -> Iterator[Trigger]:
    """Yield a trigger and all triggers that it is made of, itself first."""
    yield trigger
    for part in inner(trigger):
        yield from walk(part)


def comings(trigger: Trigger) -> int | None:
    """Return how many times a trigger can fire; None if there is no limit."""
    if isinstance(trigger, Probability):
        return 1 if comings(trigger.of) == 1 else None
    hit = getattr(trigger, "hit", 1)
    return Hits.read(hit).count


def _hit(hit: Hit) -> str:
    return "" if hit == 1 else f" (hit {hit})"


def to_data(trigger: Trigger) -> Data:
    """Return the trigger as plain data, without options that have their default."""
    kind = word_of(trigger)
    data: dict[str, Data] = {
        kind if index == 0 else field.name: _plain(getattr(trigger, field.name))
        for index, field in enumerate(fields(trigger))
        if index == 0 or getattr(trigger, field.name) != field.default
    }
    return data or kind


def _plain(value: Any) -> Data:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return to_data(value) if isinstance(value, Trigger) else value


def wrong(trigger: Trigger) -> Iterator[tuple[str, str]]:  # noqa: C901, PLR0912 - a case for each trigger
    """Yield the problems of a trigger with correct types, each with its field, without those of inner triggers."""
    match trigger:
        case After(seconds=seconds) if not 0 <= seconds < float("inf"):
            yield "seconds", f"expected a number of seconds, 0 or more, got {seconds!r}"
        case Line():
            yield from _wrong_line(trigger)
        case Point(name=""):
            yield "name", "a point needs a name"
        case Call(target=target, at=at):
            if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", target):
                yield "target", f"expected package.module:function or package.module:Class.method, got {target!r}"
            if at not in ("enter", "exit"):
                yield "at", f'expected "enter" or "exit", got {at!r}'
        case ImportOf(module=module) if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module):
            yield "module", f"expected the name of a module, got {module!r}"
        case Phase(phase=phase) if phase not in PHASES and not re.fullmatch(r"starting rank [0-9]+", phase):
            yield "phase", f'expected one of {", ".join(PHASES)}, or "starting rank 2", got {phase!r}'
        case Barrier(ranks=ranks) if ranks is not None and (not ranks or len(set(ranks)) < len(ranks)):
            yield "ranks", f"expected different ranks, got {list(ranks)}"
        case Probability(p=p) if not 0 <= p <= 1:
            yield "p", f"expected a number from 0 to 1, got {p!r}"
        case AllOf(triggers=parts) | AnyOf(triggers=parts) | Then(steps=parts) if len(parts) < 2:
            yield (
                "steps" if isinstance(trigger, Then) else "triggers",
                f"expected two triggers or more, got {len(parts)}",
            )
        case _:
            pass
    if isinstance(trigger, Line | Point | Call | SignalReceived):
        try:
            Hits.read(trigger.hit)
        except ValueError as error:
            yield "hit", str(error)


def _wrong_line(trigger: Line) -> Iterator[tuple[str, str]]:
    if trigger.stream not in (None, "stdout", "stderr"):
        yield "stream", f'expected "stdout" or "stderr", got {trigger.stream!r}'
    try:
        re.compile(trigger.regex)
    except (re.error, RecursionError, OverflowError) as error:
        yield "regex", f"{trigger.regex!r} is not a regular expression: {error}"
