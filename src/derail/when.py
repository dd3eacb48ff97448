"""Triggers: functions that make each kind, and their types for annotations.

``hit`` names the occurrences that count, from 1: ``3``, ``"2..6"``, ``"2..8+2"`` (every second one) or ``"3.."`` (all
from the third). A fault that can act more than once acts at each of them, at most ``times`` times.
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
    """Return the trigger at the start of the rank: in the rank, before the first line of its program or function."""
    return Start()


def after(seconds: float) -> After:
    """Return the trigger at a number of seconds (0 or more) after the start of the rank's process."""
    return _checked(After(_number("after", seconds)))


def line(regex: str, *, stream: Stream | None = None, hit: Hit = 1, rank: int | None = None) -> Line:
    """Return the trigger at a matching line that the rank (or ``rank``) writes."""
    return _checked(Line(regex, stream, _value(hit), rank))


def point(name: str, *, hit: Hit = 1) -> Point:
    """Return the trigger at a call of ``fail_point(name)`` in the rank."""
    return _checked(Point(name, _value(hit)))


def call(target: str, *, hit: Hit = 1, at: Side = "enter") -> Call:
    """Return the trigger at a call of ``package.module:function`` in the rank, in an unchanged program.

    Args:
        target: the function or method.
        hit: which of its calls.
        at: whether at its "enter" or its "exit".
    """
    return _checked(Call(target, _value(hit), at))


def import_of(module: str) -> ImportOf:
    """Return the trigger at the first import of a module in the rank."""
    return _checked(ImportOf(module))


def signal_received(signal: str | int, *, hit: Hit = 1) -> SignalReceived:
    """Return the trigger at a signal that the rank receives."""
    return _checked(SignalReceived(_signal(signal), _value(hit)))


def own_exit() -> OwnExit:
    """Return the trigger at the exit of the rank itself, before the launcher reads its files."""
    return OwnExit()


def exit_of(rank: int) -> ExitOf:
    """Return the trigger at the exit of another rank."""
    return _checked(ExitOf(rank))


def restart(n: int) -> Restart:
    """Return the trigger at the start of the rank's ``n``-th restart."""
    return _checked(Restart(n))


def phase(phase: str) -> Phase:
    """Return the trigger at the start of a phase of the job: "starting rank 2", "running", "stopping" or "killing"."""
    return _checked(Phase(phase))


def barrier(of: Trigger | str, *, ranks: list[int] | tuple[int, ...] | None = None) -> Barrier:
    """Return the trigger at which all ranks (or some) have reached the same trigger, or the point of that name."""
    inner = point(of) if isinstance(of, str) else of
    if ranks is not None and not _are_ranks(ranks):
        raise InputError(f"when.barrier: expected a list of ranks, got {ranks!r}")
    return _checked(Barrier(inner, None if ranks is None else tuple(sorted(ranks))))


def probability(p: float, of: Trigger = Start(), *, first: int = 0) -> Probability:  # noqa: B008 - it is frozen
    """Return a trigger at each occurrence of ``of`` with a probability, and at the ``first`` ones for certain."""
    return _checked(Probability(_number("probability", p), of, first))


def all_of(*triggers: Trigger) -> AllOf:
    """Return the trigger at which all of these have occurred."""
    return _checked(AllOf(triggers))


def any_of(*triggers: Trigger) -> AnyOf:
    """Return the trigger at which the first of these occurs."""
    return _checked(AnyOf(triggers))


def then(*steps: Trigger) -> Then:
    """Return the trigger at which these have occurred one after the other."""
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
    """Yield the problems with the types of a trigger's values."""
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
