"""The words of ``derail.when``, which make triggers; and the triggers' form in TOML and JSON.

``hit`` says which of the times counts, from 1 on: ``3``, ``"2..6"``, ``"2..8+2"`` (every second one) or ``"3.."`` (all
from the third on). A fault that can act more than once acts at each of them, ``times`` times at most.

As data a trigger is a word (``"start"``), or a table whose first word says which trigger it is
(``{line = "step 3", hit = 2}``).
"""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

from derail.faults.fields import Fields, not_known
from derail.faults.hits import Hits
from derail.faults.moments import (
    KINDS,
    After,
    AllOf,
    AnyOf,
    Barrier,
    Call,
    Exit,
    ExitOf,
    ImportOf,
    Line,
    Phase,
    Point,
    Probability,
    Restart,
    SignalReceived,
    Start,
    Then,
    Trigger,
    word_of,
)
from derail.faults.plan import PlanError
from derail.model.exit import signal_name, signal_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.faults.moments import Hit, Side
    from derail.faults.plan import Data
    from derail.model.events import Stream

PHASES = ("starting", "running", "stopping", "killing", "done")
T = TypeVar("T", bound=Trigger)


def start() -> Start:
    """At the start of the rank: in the rank, before the first line of its program or function."""
    return Start()


def after(seconds: float) -> After:
    """So many seconds (0 or more) after the rank's process was started."""
    return _checked(After(float(seconds)))


def line(regex: str, *, stream: Stream | None = None, hit: Hit = 1, rank: int | None = None) -> Line:
    """When the rank (or ``rank``) writes a matching line."""
    return _checked(Line(regex, stream, _value(hit), rank))


def point(name: str, *, hit: Hit = 1) -> Point:
    """When the rank calls ``fail_point(name)``."""
    return _checked(Point(name, _value(hit)))


def call(target: str, *, hit: Hit = 1, at: Side = "enter") -> Call:
    """When the rank enters (or leaves) ``package.module:function``; the program need not be changed for it."""
    return _checked(Call(target, _value(hit), at))


def import_of(module: str) -> ImportOf:
    """When the rank first imports a module."""
    return _checked(ImportOf(module))


def signal_received(signal: str | int, *, hit: Hit = 1) -> SignalReceived:
    """When a signal has come to the rank."""
    return _checked(SignalReceived(_signal(signal), _value(hit)))


def exit() -> Exit:  # noqa: A001 - read as `when.exit()`
    """When the rank has ended, before anybody reads what it left."""
    return Exit()


def exited(rank: int) -> ExitOf:
    """When another rank has ended."""
    return _checked(ExitOf(rank))


def restart(n: int) -> Restart:
    """At the start of the rank's ``n``-th restart."""
    return _checked(Restart(n))


def phase(phase: str) -> Phase:
    """When the job comes to a phase: "starting rank 2", "running", "stopping", "killing" ..."""
    return _checked(Phase(phase))


def barrier(of: Trigger | str, *, ranks: list[int] | tuple[int, ...] | None = None) -> Barrier:
    """When all ranks (or some) have come to the same: a trigger, or the name of a point."""
    inner = point(of) if isinstance(of, str) else of
    return _checked(Barrier(inner, None if ranks is None else tuple(sorted(ranks))))


def probability(p: float, of: Trigger = Start(), *, first: int = 0) -> Probability:  # noqa: B008 - it is frozen
    """At each time that ``of`` comes, with a probability; ``first`` times for certain."""
    return _checked(Probability(float(p), of, first))


def all_of(*triggers: Trigger) -> AllOf:
    """When all of these have come."""
    return _checked(AllOf(triggers))


def any_of(*triggers: Trigger) -> AnyOf:
    """When one of these comes."""
    return _checked(AnyOf(triggers))


def then(*steps: Trigger) -> Then:
    """When these have come one after the other."""
    return _checked(Then(steps))


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


def from_data(data: object, where: str, problems: list[str]) -> Trigger | None:
    """Read a trigger strictly. What is wrong is added to ``problems``, under the path ``where``; then None."""
    before = len(problems)
    table = Fields({data: True} if isinstance(data, str) else data, where, problems)
    kind = next((key for key in table.table if key in KINDS), None)
    if kind is None:
        if table.table:
            table.note("", not_known(next(iter(table.table)), KINDS, "trigger"))
        elif len(problems) == before:
            table.note("", f"is empty; say when: {', '.join(KINDS)}")
        return None
    given = _given(table, kind)
    table.finish()
    if len(problems) > before:
        return None
    trigger = KINDS[kind](**given)
    for field, what in wrong(trigger):
        table.note(kind if field == _first(kind) else field, what)
    return None if len(problems) > before else trigger


def _given(table: Fields, kind: str) -> dict[str, Any]:
    """What the table says of the fields of a trigger, types checked, values not yet."""
    first = _first(kind)
    given: dict[str, Any] = {}
    if first is None and table.raw(kind) is not True:
        table.note(kind, f"takes no value; write when = {kind!r}")
    for field in fields(KINDS[kind]):
        key = kind if field.name == first else field.name
        given[field.name] = _read(table, key, field.name, None if field.default is MISSING else field.default)
    return given


def _read(table: Fields, key: str, name: str, default: Any) -> Any:
    """One field of a trigger, by its name; what is wrong is noted."""
    if key != name and not table.has(key):
        return default
    match name:
        case "seconds":
            return table.seconds(key, 0.0)
        case "p":
            return _number(table, key)
        case "rank" | "n" | "first":
            return table.whole(key, default)
        case "hit":
            return _noted(table, key, default, lambda value: Hits.read(value).value)
        case "signal":
            return _noted(table, key, default, _signal)
        case "of":
            return from_data(table.raw(key), table.path(key), table.problems) if table.has(key) else default
        case "triggers" | "steps":
            return _list(table, key)
        case "ranks":
            return _ranks(table, key)
        case _:
            return table.text(key, default)


def _noted(table: Fields, key: str, default: Any, read: Any) -> Any:
    value = table.raw(key)
    if not table.has(key):
        return default
    if isinstance(value, bool) or not isinstance(value, int | str):
        table.note(key, f"expected a number or a text, got {value!r}")
        return default
    try:
        return read(value)
    except ValueError as error:
        table.note(key, str(error).removeprefix("when.signal_received: "))
        return default


def _number(table: Fields, key: str) -> float:
    value = table.raw(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        table.note(key, f"expected a number from 0 to 1, got {value!r}")
        return 0.0
    return float(value)


def _list(table: Fields, key: str) -> tuple[Trigger, ...]:
    value = table.raw(key)
    if not isinstance(value, list):
        table.note(key, f"expected a list of triggers, got {value!r}")
        return ()
    read = [from_data(item, f"{table.path(key)}[{index}]", table.problems) for index, item in enumerate(value)]
    return tuple(trigger for trigger in read if trigger is not None)


def _ranks(table: Fields, key: str) -> tuple[int, ...] | None:
    value = table.raw(key)
    if not table.has(key):
        return None
    if not isinstance(value, list) or not all(type(rank) is int and rank >= 0 for rank in value):
        table.note(key, f"expected a list of ranks, got {value!r}")
        return None
    return tuple(sorted(value))


def _first(kind: str) -> str | None:
    """The field that stands under the trigger's own word."""
    return next((field.name for field in fields(KINDS[kind])), None)


def wrong(trigger: Trigger) -> Iterator[tuple[str, str]]:
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


def _checked(trigger: T) -> T:
    """The trigger; PlanError if it can never come."""
    problems = [f"when.{word_of(trigger)}: {what}" for _, what in wrong(trigger)]
    if problems:
        raise PlanError(*problems)
    return trigger


def _value(hit: Hit) -> Hit:
    try:
        return Hits.read(hit).value
    except ValueError:
        return hit  # told with all else that is wrong


def _signal(signal: str | int) -> str:
    try:
        return signal_name(signal_number(signal))
    except ValueError as error:
        raise PlanError(f"when.signal_received: {error}") from None
