"""Twins of a scenario that must not pass: if one does, the scenario looks at nothing that its faults change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derail.faults.model.plan import Plan, Target
    from derail.scenario.model import Finding, Scenario, Twin, Verdict


def twin(scenario: Scenario, kind: Twin) -> Scenario | None:
    """The same scenario without its faults, or with each of them aimed at the next rank; None if that is no other one.

    The moments stay as they are: what happens at the third step of rank 2 still does, to another rank.
    """
    from derail.faults.engine.prepare import check
    from derail.faults.model.plan import Plan
    from derail.model.input_error import InputError

    if not scenario.faults.faults:
        return None
    if kind == "no-fault":
        return _renamed(scenario, kind, Plan((), scenario.faults.seed))
    moved = tuple(replace(fault, target=_next(fault.target, scenario.ranks)) for fault in scenario.faults.faults)
    if moved == scenario.faults.faults:
        return None
    plan = replace(scenario.faults, faults=moved)
    try:
        check(plan, range(scenario.ranks))
    except InputError:
        return None
    return _renamed(scenario, kind, plan)


def twins(scenario: Scenario) -> tuple[Scenario, ...]:
    """The twins that a scenario says it has, as far as they can be made."""
    made = (twin(scenario, kind) for kind in scenario.control)
    return tuple(each for each in made if each is not None)


def sees(verdict: Verdict) -> tuple[Finding, ...]:
    """What of the expectations tells a twin from its scenario: those that it did not keep.

    Whether its faults happened is not asked: a fault that is aimed at somebody else need not be able to happen.
    """
    return tuple(finding for finding in verdict.findings if finding.kept is False)


def _next(target: Target, ranks: int) -> Target:
    if isinstance(target, str):
        return target
    if isinstance(target, int):
        return (target + 1) % ranks
    return tuple(sorted((rank + 1) % ranks for rank in target))


def _renamed(scenario: Scenario, kind: Twin, plan: Plan) -> Scenario:
    return replace(scenario, name=f"{scenario.name} ({kind})", faults=plan, control=())
