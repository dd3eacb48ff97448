"""``derail run --mtbf``: a job that is broken again and again, and its goodput."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from derail.cli.display import show
from derail.cli.evidence import evidence_directory
from derail.cli.usage import usage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from derail.agents.agent import Agent
    from derail.campaign.mtbf import Breaking
    from derail.scenario.goodput import Measurement
    from derail.scenario.model import Scenario
    from derail.scenario.recovery import Measure


LEAST_QUIET_S = 5.0  # seconds of a quiet run, by default


def read_breaking(
    mtbf: float | None, seconds: float | None, seed: int | None, quiet: float | None, rate: float | None
) -> Breaking | None:
    """Return how a job is broken; None without ``--mtbf``.

    Raises:
        ValueError: if an option lacks another one.
    """
    if mtbf is None:
        options = {"--for": seconds, "--seed": seed, "--quiet": quiet, "--quiet-rate": rate}
        if lonely := [name for name, value in options.items() if value is not None]:
            raise ValueError(f"{', '.join(lonely)}: expected --mtbf as well, which breaks the job again and again")
        return None
    if seconds is None:
        raise ValueError("--mtbf: expected --for as well, the time in which the job is broken: --for 5m")
    if quiet is not None and rate is not None:
        raise ValueError("--quiet, --quiet-rate: expected one of them: with a known rate there is no quiet run")
    from derail.campaign.mtbf import Breaking

    return Breaking(mtbf, seconds, seed or 0, quiet or max(LEAST_QUIET_S, seconds / 10), rate)


def measure_goodput(
    scenario: Scenario,
    agent: Agent,
    how: Breaking,
    budget: Mapping[Measure, float],
    *,
    output_dir: Path | None,
    as_json: bool,
) -> NoReturn:
    """Measure the goodput of a scenario's job, print it, and exit.

    Raises:
        ValueError: if the schedule has too many breaks.
    """
    import json

    from derail.campaign.mtbf import breaks_of, measure, unsupported
    from derail.campaign.runner import Signals
    from derail.launch.signals import SignalException
    from derail.report.goodput import as_data, render_goodput, render_schedule
    from derail.scenario.model import EXIT_CODES

    if reason := unsupported(agent, scenario):
        show(f"SKIPPED  {scenario.name or scenario.title}\n  * {agent.name}: {reason}\n")
        sys.exit(EXIT_CODES["SKIPPED"])
    breaks = breaks_of(scenario, how)
    with usage_errors(), evidence_directory(output_dir, of_one_run=True) as evidence:
        click.echo(render_schedule(breaks, seed=how.seed, mtbf=how.mtbf, seconds=how.seconds), nl=False, err=True)
        try:
            with Signals():
                measured = measure(scenario, agent, how, workdir=evidence.path, on_news=_say)
        except SignalException as asked:
            click.echo(f"derail: ended by {asked.sigval.name}", err=True)
            sys.exit(128 + asked.sigval)
        violations = tuple(_beyond(measured, budget))
        if as_json:
            click.echo(json.dumps(as_data(measured, violations), indent=2))
        else:
            show(render_goodput(measured, violations))
            if output_dir is not None:
                show(f"logs and journals: {output_dir}\n")
    sys.exit(EXIT_CODES["FAIL" if violations else "INCONCLUSIVE" if measured.problem else "PASS"])


def _say(news: str) -> None:
    click.echo(f"derail: {news}", err=True)


def _beyond(measured: Measurement, budget: Mapping[Measure, float]) -> Iterator[str]:
    """Yield the limits that a recovery exceeds, each with the largest value."""
    from derail.report.goodput import values_of
    from derail.scenario.recovery import shown

    for measure, limit in budget.items():
        beyond = [value for value in values_of(measured, measure) if value > limit]
        if beyond:
            unit = "" if measure == "lost-steps" else "s"
            many = f"{len(beyond)} of {len(measured.recoveries)} recoveries"
            yield f"budget {measure}={limit:g}{unit}: {many} exceed it, the worst with {shown(measure, max(beyond))}"
