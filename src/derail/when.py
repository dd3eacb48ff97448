"""Triggers: functions that make each kind, and their types for annotations.

``hit`` says which of the times counts, from 1 on: ``3``, ``"2..6"``, ``"2..8+2"`` (every second one) or ``"3.."`` (all
from the third on). A fault that can act more than once acts at each of them, ``times`` times at most.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from derail.faults.model.occurrences import Hits
from derail.faults.model.triggers import (
    After,
    AllOf,
    AnyOf,
    Barrier,
    Call,
    ExitOf,
    Hit,
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
    word_of,
    wrong,
)
from derail.model.exit import signal_name, signal_number
from derail.model.input_error import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.faults.model.triggers import Side
    from derail.model.events import Stream

__all__ = [
    "After",
    "AllOf",
    "AnyOf",
    "Barrier",
    "Call",
    "ExitOf",
    "Hit",
    "ImportOf",
    "Line",
    "OwnExit",
    "Phase",
    "Point",
    "Probability",
    "Restart",
    "SignalReceived",
    "Start",
    "Then",
    "Trigger",
    "after",
    "all_of",
    "any_of",
    "barrier",
    "call",
    "exit_of",
    "import_of",
    "line",
    "own_exit",
    "phase",
    "point",
    "probability",
    "restart",
    "signal_received",
    "start",
    "then",
]

T = TypeVar("T", bound=Trigger)


def start() -> Start:
    """At the start of the rank: in the rank, before the first line of its program or function."""
    return Start()


def after(seconds: float) -> After:
    """So many seconds (0 or more) after the rank's process was started."""
    return _checked(After(_number("after", seconds)))


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


def own_exit() -> OwnExit:
    """When the rank itself has ended, before anybody reads what it left."""
    return OwnExit()


def exit_of(rank: int) -> ExitOf:
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
    if ranks is not None and not _are_ranks(ranks):
        raise InputError(f"when.barrier: expected a list of ranks, got {ranks!r}")
    return _checked(Barrier(inner, None if ranks is None else tuple(sorted(ranks))))


def probability(p: float, of: Trigger = Start(), *, first: int = 0) -> Probability:  # noqa: B008 - it is frozen
    """At each time that ``of`` comes, with a probability; ``first`` times for certain."""
    return _checked(Probability(_number("probability", p), of, first))


def all_of(*triggers: Trigger) -> AllOf:
    """When all of these have come."""
    return _checked(AllOf(triggers))


def any_of(*triggers: Trigger) -> AnyOf:
    """When one of these comes."""
    return _checked(AnyOf(triggers))


def then(*steps: Trigger) -> Then:
    """When these have come one after the other."""
    return _checked(Then(steps))


def _checked(trigger: T) -> T:
    """Return the trigger.

    Raises:
        InputError: if a value has a wrong type, or the trigger can never come.
    """
    problems = list(_mistyped(trigger)) or [what for _, what in wrong(trigger)]
    if problems:
        raise InputError(*(f"when.{word_of(trigger)}: {what}" for what in problems))
    return trigger


def _mistyped(trigger: Trigger) -> Iterator[str]:
    """Yield what is wrong with the types of what a trigger holds, which no other file has checked."""
    for field in fields(trigger):
        value = getattr(trigger, field.name)
        if value is None and field.default is None:
            continue
        match field.name:
            case "regex" | "name" | "target" | "module" | "phase" if not isinstance(value, str):
                yield f"expected a string, got {value!r}"
            case "rank" | "n" | "first" if not _are_ranks([value]):
                yield f"expected a whole number, 0 or more, got {value!r}"
            case "of" | "triggers" | "steps":
                parts = (value,) if field.name == "of" else value
                yield from (f"expected a trigger, got {part!r}" for part in parts if not isinstance(part, Trigger))
            case _:
                pass


def _are_ranks(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(rank, int) and not isinstance(rank, bool) and rank >= 0 for rank in value
    )


def _number(word: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"when.{word}: expected a number, got {value!r}")
    return float(value)


def _value(hit: Hit) -> Hit:
    try:
        return Hits.read(hit).value
    except ValueError:
        return hit  # told with all else that is wrong


def _signal(signal: object) -> str:
    if isinstance(signal, bool) or not isinstance(signal, str | int):
        raise InputError(f"when.signal_received: expected a signal like 'SIGTERM', got {signal!r}")
    try:
        return signal_name(signal_number(signal))
    except ValueError as error:
        raise InputError(f"when.signal_received: {error}") from None
