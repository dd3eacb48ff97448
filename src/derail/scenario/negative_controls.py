"""Negative controls of a scenario: variants that must not pass, else the scenario checks no effect of its faults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derail.faults.model.plan import Plan, Target
    from derail.scenario.model import ControlKind, Finding, Scenario, Verdict


def negative_control(scenario: Scenario, kind: ControlKind) -> Scenario | None:
    """Return the scenario without its faults, or with each aimed at the next rank; None if that changes nothing.

    Triggers do not change: a fault at the third step of rank 2 still acts at that time, on another rank.
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


def negative_controls(scenario: Scenario) -> tuple[Scenario, ...]:
    """Return the negative controls that a scenario names, as far as they are possible."""
    controls = (negative_control(scenario, kind) for kind in scenario.control)
    return tuple(each for each in controls if each is not None)


def unmet(verdict: Verdict) -> tuple[Finding, ...]:
    """Return the unmet expectations, which distinguish a negative control from its scenario.

    Whether the faults happened does not matter: a fault aimed at another rank need not be possible.
    """
    return tuple(finding for finding in verdict.findings if finding.kept is False)


def _next(target: Target, ranks: int) -> Target:
    if isinstance(target, str):
        return target
    if isinstance(target, int):
        return (target + 1) % ranks
    return tuple(sorted((rank + 1) % ranks for rank in target))


def _renamed(scenario: Scenario, kind: ControlKind, plan: Plan) -> Scenario:
    return replace(scenario, name=f"{scenario.name} ({kind})", faults=plan, control=())
