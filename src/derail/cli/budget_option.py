"""``--budget``: limits of the recovery, which turn a run beyond them into FAIL; and times with a unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from derail.scenario.model import Scenario
    from derail.scenario.recovery import Measure

F = TypeVar("F", bound="Callable[..., Any]")
UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}  # seconds


def read_duration(text: str) -> float:
    """Return the seconds of a time such as ``30s``, ``500ms``, ``5m``, ``1.5h`` or ``30``.

    Raises:
        ValueError: if it is no such time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|min|h|)", text.strip())
    if match is None:
        raise ValueError(f"expected a time like 30s, 500ms or 5m, got {text!r}")
    return float(match[1]) * UNITS[match[2]]


def duration(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """Return the seconds of an option, more than 0; None if it is not given.

    Raises:
        BadParameter: if it is no time.
    """
    if text is None:
        return None
    try:
        seconds = read_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not 0 < seconds < float("inf"):
        raise click.BadParameter(f"expected more than 0 s, got {text!r}")
    return seconds


def budget_option(command: F) -> F:
    """Add ``--budget``, which limits the recovery of jobs."""
    return click.option(
        "--budget", "budget", multiple=True, metavar="MEASURE=LIMIT",
        help="FAIL beyond this limit: notice=1s, stop=10s or recover=30s after the fault, lost-steps=5. Repeatable.",
    )(command)  # fmt: skip


def read_budget(specs: Iterable[str]) -> dict[Measure, float]:
    """Return the limits of ``--budget`` options, by measure.

    Raises:
        InputError: if one has an error, or a measure is given twice.
    """
    from derail.model.input_error import InputError, not_known
    from derail.scenario.recovery import MEASURES

    budget: dict[Measure, float] = {}
    for spec in specs:
        name, equals, text = spec.partition("=")
        measure = next((each for each in MEASURES if each == name), None)
        if measure is None:
            raise InputError(f"--budget {spec}: {not_known(name, MEASURES, 'measure')}")
        if measure in budget:
            raise InputError(f"--budget {spec}: {name} is given twice")
        if not equals:
            raise InputError(
                f"--budget {spec}: expected a limit, as in {name}={'5' if name == 'lost-steps' else '30s'}"
            )
        try:
            budget[measure] = _read_steps(text) if measure == "lost-steps" else read_duration(text)
        except ValueError as error:
            raise InputError(f"--budget {spec}: {error}") from None
    return budget


def _read_steps(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"expected a number of steps, got {text!r}")
    return int(text)


def under_budget(scenarios: Iterable[Scenario], budget: Mapping[Measure, float]) -> list[Scenario]:
    """Return the scenarios with these limits.

    Raises:
        InputError: if a limit cannot apply to any of them.
    """
    from dataclasses import replace

    from derail.model.input_error import InputError
    from derail.scenario.expect import budgeted

    limited = [replace(scenario, budget=budget) for scenario in scenarios]
    used = {measure for scenario in limited for measure in budgeted(scenario)}
    if unused := [measure for measure in budget if measure not in used]:
        needs = "faults in its ranks" if {*unused} <= {"notice", "stop"} else "faults in its ranks, and `restarts`"
        raise InputError(f"--budget {', '.join(unused)}: can never be measured: no chosen scenario has {needs}")
    return limited
