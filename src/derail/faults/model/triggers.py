"""What sets faults off, as frozen values. ``derail.when`` makes them, ``engine/trigger_matcher`` looks out for them."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from derail.faults.model.occurrences import Hits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.model.events import Stream

Data: TypeAlias = "bool | int | float | str | list[Data] | dict[str, Data] | None"
"""What TOML and JSON can hold."""

PHASES = ("starting", "running", "stopping", "killing", "done")
Hit: TypeAlias = int | str
Side: TypeAlias = Literal["enter", "exit"]


@dataclass(frozen=True, slots=True)
class Start:
    """Right before the first line of the rank's program or function (in the rank), or as soon as its process exists
    (outside)."""

    def __str__(self) -> str:
        return "at its start"


@dataclass(frozen=True, slots=True)
class After:
    """So many seconds after the rank's process was started; as a later step of ``then``, after the step before."""

    seconds: float

    def __str__(self) -> str:
        return f"after {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Line:
    """When the rank writes a line in which ``regex`` is found.

    Attributes:
        regex: searched in the line, as ``re.search`` does.
        stream: "stdout" or "stderr"; None for both.
        hit: which matches set it off, counted from 1 and per rank.
        rank: whose lines; None for those of the rank that the fault is aimed at.
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
    """When code in the rank calls ``fail_point(name)``."""

    name: str
    hit: Hit = 1

    def __str__(self) -> str:
        return f"at point {self.name!r}{_hit(self.hit)}"


@dataclass(frozen=True, slots=True)
class Call:
    """When the rank calls a function, in code that was never changed.

    Attributes:
        target: ``package.module:function`` or ``package.module:Class.method``; ``__main__:function`` for the program.
        hit: which calls, counted from 1 in the rank, whatever thread makes them.
        at: "enter", before its first line; or "exit", when it is left, by an exception too.
    """

    target: str
    hit: Hit = 1
    at: Side = "enter"

    def __str__(self) -> str:
        return f"at {'call' if self.at == 'enter' else 'the end of a call'} of {self.target}{_hit(self.hit)}"


@dataclass(frozen=True, slots=True)
class ImportOf:
    """When the rank imports a module for the first time, before the first line of it."""

    module: str

    def __str__(self) -> str:
        return f"at the import of {self.module}"


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """When a signal has come to the rank: before its handler runs, or before Python does what the signal does by
    default. Of ranks that are no Python only the signal that ended them is known."""

    signal: str
    hit: Hit = 1

    def __str__(self) -> str:
        return f"when it gets {self.signal}{_hit(self.hit)}"


@dataclass(frozen=True, slots=True)
class OwnExit:
    """When the rank's process has ended, before the supervisor acts on it and before its files are read."""

    def __str__(self) -> str:
        return "at its exit"


@dataclass(frozen=True, slots=True)
class ExitOf:
    """When the process of another rank has ended, before the supervisor acts on it."""

    rank: int

    def __str__(self) -> str:
        return f"at the exit of rank {self.rank}"


@dataclass(frozen=True, slots=True)
class Restart:
    """At the start of the rank's ``n``-th restart (TORCHELASTIC_RESTART_COUNT); 0 is its first start."""

    n: int

    def __str__(self) -> str:
        return f"at the start of restart {self.n}"


@dataclass(frozen=True, slots=True)
class Phase:
    """When the job comes to a phase: "starting", "starting rank 2", "running", "stopping", "killing" or "done"."""

    phase: str

    def __str__(self) -> str:
        return f"when the job is {self.phase}"


@dataclass(frozen=True, slots=True)
class Barrier:
    """When ``of`` has come in all of some ranks. Those that come first wait there, if it comes inside a rank.

    Attributes:
        of: what must come in each.
        ranks: in which; None for all ranks of the job.
    """

    of: Trigger
    ranks: tuple[int, ...] | None = None

    def __str__(self) -> str:
        whose = "all ranks" if self.ranks is None else f"ranks {', '.join(map(str, self.ranks))}"
        return f"when {whose} are {self.of}"


@dataclass(frozen=True, slots=True)
class Probability:
    """At each time that ``of`` comes, with a probability; decided by the plan's seed, the fault's id, the rank and how
    many times it has come.

    Attributes:
        p: from 0 to 1.
        of: what comes.
        first: so many times it is certain.
    """

    p: float
    of: Trigger = Start()
    first: int = 0

    def __str__(self) -> str:
        certain = "" if not self.first else f", certainly the first {self.first} times"
        return f"{self.of}, with probability {self.p:g}{certain}"


@dataclass(frozen=True, slots=True)
class AllOf:
    """When all of these have come, in whatever order."""

    triggers: tuple[Trigger, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.triggers))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """When the first of these comes."""

    triggers: tuple[Trigger, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.triggers))


@dataclass(frozen=True, slots=True)
class Then:
    """When these have come one after the other. Each is looked for, and counted, when the one before has come.

    A later step that only the rank sees (a point, a call) has it ask the driver each time that it is there, which takes
    milliseconds: nothing for what is called a thousand times a second.
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
    """The word that makes such a trigger."""
    return next(word for word, made in KINDS.items() if type(trigger) is made)


def inner(trigger: Trigger) -> tuple[Trigger, ...]:
    """The triggers that it is made of; none for most."""
    match trigger:
        case AllOf(triggers=parts) | AnyOf(triggers=parts) | Then(steps=parts):
            return parts
        case Barrier(of=part) | Probability(of=part):
            return (part,)
        case _:
            return ()


def walk(trigger: Trigger) -> Iterator[Trigger]:
    """A trigger and all that it is made of, itself first."""
    yield trigger
    for part in inner(trigger):
        yield from walk(part)


def comings(trigger: Trigger) -> int | None:
    """How many times it may come; None if that is open."""
    if isinstance(trigger, Probability):
        return 1 if comings(trigger.of) == 1 else None
    hit = getattr(trigger, "hit", 1)
    return Hits.read(hit).count


def _hit(hit: Hit) -> str:
    return "" if hit == 1 else f" (hit {hit})"


def to_data(trigger: Trigger) -> Data:
    """The trigger as plain data; options that have their default are left out."""
    kind = word_of(trigger)
    told: dict[str, Data] = {
        kind if index == 0 else field.name: _plain(getattr(trigger, field.name))
        for index, field in enumerate(fields(trigger))
        if index == 0 or getattr(trigger, field.name) != field.default
    }
    return told or kind


def _plain(value: Any) -> Data:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return to_data(value) if isinstance(value, Trigger) else value


def wrong(trigger: Trigger) -> Iterator[tuple[str, str]]:  # noqa: C901, PLR0912 - a case for each trigger
    """What is wrong with a trigger whose types are right, by field; not what is wrong inside of those it is made of."""
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
        yield "regex", f"{trigger.regex!r} is no regular expression: {error}"
