"""``derail run`` judges one scenario, ``derail list`` names those that come with derail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from derail.cli.display import display, show, watch_faults
from derail.cli.evidence import evidence_directory
from derail.cli.usage import of_families, usage_errors

if TYPE_CHECKING:
    from derail.scenario.model import Scenario


@click.command(short_help="Run one scenario on derail's launcher, and judge it.")
@click.argument("scenario")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Keep logs and journal in this directory.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the verdict and all that it rests on as JSON.")
def run(*, scenario: str, keep: Path | None, as_json: bool) -> NoReturn:
    """Run a scenario, a TOML file or the name of one that comes with derail, and judge what it shows.

    Exits with 0 for PASS, 1 for FAIL, 2 if the scenario cannot be read, 3 for INCONCLUSIVE (a fault did not verifiably
    happen), 4 for SKIPPED (it cannot be done on this machine).
    """
    import json
    from dataclasses import replace

    from derail.agents.native import NativeAgent
    from derail.campaign import campaign
    from derail.launch.signals import SignalException
    from derail.report.text import render_verdict

    with usage_errors():
        loaded = campaign.load_scenario(scenario)  # before anything of an earlier run is cleared
    with usage_errors(), evidence_directory(keep, of_one_run=True) as evidence:
        try:
            with display(loaded.ranks, loaded.faults, live=True) as progress:
                agent = NativeAgent(
                    observers=[progress],
                    started=lambda job: watch_faults(progress, job),
                    handle_signals=True,
                )
                done = campaign.run_scenario(loaded, agent, workdir=evidence.path)
        except SignalException as asked:
            click.echo(f"derail: ended by {asked.sigval.name}", err=True)
            sys.exit(128 + asked.sigval)
        if keep is None:  # the journal is about to go
            done = replace(done, observation=replace(done.observation, journal=None, workdir=None))
        if as_json:
            click.echo(json.dumps(campaign.as_data(done), indent=2))
        else:
            show(render_verdict(loaded, done.observation, done.verdict))
            if keep is None and done.verdict.kind not in ("PASS", "SKIPPED"):
                click.echo("logs and journal were not kept; give --keep DIR to have them", err=True)
        if agent.unsupported(loaded):
            click.echo(f"derail: {_others(loaded, scenario)}", err=True)
    sys.exit(done.verdict.exit_code)


def _others(loaded: Scenario, name: str) -> str:
    """Which agents can run a scenario that derail's own launcher cannot, and how."""
    from derail.agents import registry

    able: list[str] = []
    elsewhere: list[str] = []
    for other, make in registry.agents().items():
        try:
            agent = make()
            if not agent.unsupported(loaded):
                (elsewhere if agent.unavailable() else able).append(other)
        except Exception:  # an agent may be anybody's code, or lack its package
            continue
    if able:
        return f"{', '.join(able)} can run it: derail verify-agent {able[0]} --scenario {name}"
    known = f"; {', '.join(elsewhere)} could, but cannot be run here" if elsewhere else ""
    return f"no agent that can be run here can run it{known} (one of your own: derail verify-agent --agent-cmd)"


@click.command(name="list", short_help="List the scenarios that come with derail, by family.")
@click.argument("families", nargs=-1, metavar="[FAMILY]...")
def list_(*, families: tuple[str, ...]) -> None:
    """Name the scenarios of each FAMILY that come with derail, or all, with what must come of each.

    Exits with 2 if there is no such family.
    """
    from derail.report.library import library, render_list

    with usage_errors():
        click.echo(render_list(of_families(library(), families)), nl=False)
