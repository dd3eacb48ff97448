"""Targets of faults: rank numbers, or a word that is resolved with the plan's seed.

The ranks that a word selects depend only on the seed, the fault's id and the rank numbers: each rank has a fixed place
in the order of selection. Ranks that ``keep_alive`` spares are never selected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from derail.faults.model.plan import decide
from derail.model.input_error import not_known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from derail.faults.model.plan import Fault, Plan, Target, TargetWord

AGENT: Final = "the agent"
AGENT_RANK = -1
"""Rank number in events and results of the process that supervises the ranks, if that is a separate process."""
WORDS: dict[TargetWord, Callable[[int], int]] = {
    "all": lambda ranks: ranks,
    "one": lambda _: 1,
    "minority": lambda ranks: (ranks - 1) // 2,
    "majority": lambda ranks: ranks // 2 + 1,
    "all but one": lambda ranks: ranks - 1,
    AGENT: lambda _: 0,
}
"""Target words, each with the number of ranks that it selects from a number of ranks."""


def read_target(value: object) -> tuple[Target | None, str]:
    """Return a target in normal form, or None and the problem with it."""
    if isinstance(value, str):
        return (value, "") if value in WORDS else (None, not_known(value, WORDS, "target"))
    if isinstance(value, bool) or value is None:
        return None, f"expected a rank, a list of ranks or one of {', '.join(WORDS)}, got {value!r}"
    if isinstance(value, int):
        return (value, "") if value >= 0 else (None, f"expected a rank, 0 or more, got {value}")
    if not isinstance(value, list | tuple) or not all(type(rank) is int and rank >= 0 for rank in value):
        return None, f"expected a rank, a list of ranks or one of {', '.join(WORDS)}, got {value!r}"
    if not value:
        return None, "an empty list names no rank"
    if len(set(value)) != len(value):
        return None, f"{list(value)} names a rank twice"
    return tuple(sorted(value)), ""


def resolve(plan: Plan, fault: Fault, ranks: Sequence[int]) -> tuple[int, ...]:
    """Return the target ranks of a fault of the plan, among the ranks of the job.

    Args:
        plan: the plan, with its seed and ``keep_alive``.
        fault: one of its faults.
        ranks: the ranks of the job, with ``AGENT_RANK`` if faults can target the agent.

    Raises:
        ValueError: if it names a rank that the job does not have, or no rank can be selected.
    """
    if fault.target == AGENT and AGENT_RANK in ranks:
        return (AGENT_RANK,)
    ranks = [rank for rank in ranks if rank != AGENT_RANK]
    if isinstance(fault.target, str):
        return _meant(plan, fault, fault.target, ranks)
    named = (fault.target,) if isinstance(fault.target, int) else fault.target
    unknown = [rank for rank in named if rank not in ranks]
    if unknown:
        have = (
            f"ranks {ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else f"rank {ranks[0]} only" if ranks else "no ranks"
        )
        raise ValueError(f"there is no rank {', '.join(map(str, unknown))}; the job has {have}")
    return named


def _meant(plan: Plan, fault: Fault, word: TargetWord, ranks: Sequence[int]) -> tuple[int, ...]:
    if word == AGENT:
        raise ValueError("this job has no agent to target: derail's own launcher supervises its ranks")
    if not ranks:
        raise ValueError("the job has no ranks")
    free = [rank for rank in ranks if rank not in spared(plan, ranks)]
    many = min(WORDS[word](len(ranks)), len(free))
    if many < 1:
        kept = f" with keep_alive={plan.keep_alive}" if plan.keep_alive else ""
        raise ValueError(f"{word!r} selects no rank in a job of {len(ranks)} ranks{kept}")
    taken = sorted(free, key=lambda rank: decide(plan.seed, fault.id, rank), reverse=True)
    return tuple(sorted(taken[:many]))


def spared(plan: Plan, ranks: Sequence[int]) -> tuple[int, ...]:
    """Return the ranks that no fault targets, because of ``keep_alive``.

    Raises:
        ValueError: if the faults name too many ranks to spare enough others.
    """
    named = {
        rank
        for fault in plan.faults
        if not isinstance(fault.target, str)
        for rank in ([fault.target] if isinstance(fault.target, int) else fault.target)
    }
    free = [rank for rank in ranks if rank not in named and rank != AGENT_RANK]
    if len(free) < plan.keep_alive:
        raise ValueError(
            f"expected {plan.keep_alive} of {len(ranks) - ranks.count(AGENT_RANK)} ranks without a fault, "
            f"got {len(free)}: faults target all the others"
        )
    return tuple(sorted(free, key=lambda rank: decide(plan.seed, "keep_alive", rank), reverse=True)[: plan.keep_alive])
