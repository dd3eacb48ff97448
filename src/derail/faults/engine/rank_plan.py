"""Part of a plan that a rank receives, as plain data: the faults to inject there, and the places to watch."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from derail.faults.engine.trigger_matcher import Inside, passes
from derail.faults.model.occurrences import Hits
from derail.faults.model.triggers import (
    Barrier,
    Call,
    Probability,
    Restart,
    SignalReceived,
    Start,
    Then,
    inner,
    word_of,
)
from derail.faults.registry import entry
from derail.model.exit import signal_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from derail.faults.model.plan import Fault, Plan
    from derail.faults.model.triggers import Data, Trigger

ENOUGH = 1000
"""Number of occurrences of a random trigger that are decided before a rank starts."""
PATIENCE, LONG_PATIENCE = 10.0, 60.0
"""Seconds that a rank waits at a watched place for the driver; the longer one where it waits for its peers."""


def own(side: str, trigger: Trigger) -> bool:
    """Return whether a rank detects this trigger and injects on its own, for a fault on this side."""
    if isinstance(trigger, Probability):
        return side == "in rank" and isinstance(trigger.of, Start | Inside)
    return side == "in rank" and isinstance(trigger, Start | Restart | Inside)


def tasks(plan: Plan, fault: Fault, aimed: Sequence[int]) -> list[tuple[Data, tuple[int, ...]]]:
    """Return an in-rank fault in the form that the runtime reads; one entry per rank where ranks differ."""
    trigger = fault.when
    if not own(entry(fault.name).side, trigger):
        return [_task(fault, aimed, {"when": "told"})]
    if isinstance(trigger, Restart):
        return [_task(fault, aimed, {"when": "start", "attempt": trigger.n})]
    if isinstance(trigger, Start):
        return [_task(fault, aimed, {"when": "start"})]
    if not isinstance(trigger, Probability):
        return [_task(fault, aimed, {"when": "watch", "watch": watch_at(trigger, [Hits.read(_hit(trigger))])})]
    if isinstance(trigger.of, Start):
        decided = {rank: passes(plan.seed, fault.id, rank, trigger, 1) for rank in aimed}
        return [_task(fault, [rank], {"when": "start" if decided[rank] else "told"}) for rank in aimed]
    return [
        _task(
            fault, [rank], {"when": "watch", "watch": watch_at(trigger.of, chosen(plan.seed, fault.id, rank, trigger))}
        )
        for rank in aimed
    ]


def _task(fault: Fault, ranks: Sequence[int], when: dict[str, Data]) -> tuple[Data, tuple[int, ...]]:
    params = fault.values
    ignore = params.get("ignore")
    told: dict[str, Data] = {
        "id": fault.id,
        "name": fault.name,
        "ranks": list(ranks),
        "params": {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()},
        "for": fault.for_,
        "numbers": [signal_number(name) for name in ignore] if isinstance(ignore, tuple) else [],
        **when,
    }
    return told, tuple(ranks)


def watches(plan: Plan, fault: Fault, aimed: Sequence[int], ranks: Sequence[int]) -> list[tuple[Data, tuple[int, ...]]]:
    """Return the places that ranks report to the driver for a fault, and which ranks; numbered like ``Condition``."""
    if own(entry(fault.name).side, fault.when):
        return []
    numbers = count()

    def look(
        part: Trigger, whose: tuple[int, ...], *, later: bool = False, waits: bool = False
    ) -> Iterator[tuple[Data, tuple[int, ...]]]:
        number = next(numbers)
        if isinstance(part, Inside):
            hits = Hits(1, None) if later else Hits.read(_hit(part))
            yield {"number": number, **_told(fault, part, [hits], waits=waits)}, whose
        elif isinstance(part, Probability) and isinstance(part.of, Inside) and not later:
            number = next(numbers)
            for rank in whose:
                times = chosen(plan.seed, fault.id, rank, part)
                yield {"number": number, **_told(fault, part.of, times, waits=waits)}, (rank,)
        elif isinstance(part, Barrier):
            yield from look(part.of, tuple(ranks) if part.ranks is None else part.ranks, later=later, waits=True)
        else:
            for place, step in enumerate(inner(part)):
                yield from look(step, whose, later=later or (isinstance(part, Then) and place > 0), waits=waits)

    return list(look(fault.when, tuple(aimed)))


def _told(fault: Fault, trigger: Inside, hits: Sequence[Hits], *, waits: bool) -> dict[str, Data]:
    return {"fault": fault.id, "patience": LONG_PATIENCE if waits else PATIENCE, **watch_at(trigger, hits)}


def watch_at(trigger: Trigger, hits: Sequence[Hits]) -> dict[str, Data]:
    """Return a trigger that only the rank can detect, in the form that ``inrank.rank_plan.Watch`` reads."""
    kind = word_of(trigger)
    name = str(getattr(trigger, {"point": "name", "call": "target", "import_of": "module"}.get(kind, "signal")))
    if isinstance(trigger, SignalReceived):
        name = str(signal_number(name))
    at = trigger.at if isinstance(trigger, Call) else "enter"
    return {"kind": kind, "name": name, "at": at, "hits": [[hit.first, hit.last, hit.step] for hit in hits]}


def chosen(seed: int, fault: str, rank: int, trigger: Probability) -> list[Hits]:
    """Return the occurrences on which a random trigger fires, among those that a rank counts."""
    hits, found = Hits.read(_hit(trigger.of)), []
    for place in range(1, ENOUGH + 1):
        number = hits.nth(place)
        if number is None:
            break
        if passes(seed, fault, rank, trigger, place):
            found.append(Hits(number, number))
    return found


def _hit(trigger: Trigger) -> int | str:
    hit: int | str = getattr(trigger, "hit", 1)
    return hit
