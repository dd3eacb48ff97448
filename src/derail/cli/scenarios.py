"""``derail run`` judges one scenario, ``derail list`` names those that come with derail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from derail.cli.display import display, watch_faults
from derail.cli.evidence import evidence_directory
from derail.cli.usage import usage_errors


@click.command()
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

    from derail import campaign
    from derail.agents.native import NativeAgent
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
            click.echo(render_verdict(loaded, done.observation, done.verdict), nl=False)
            if keep is None and not done.verdict.passed:
                click.echo("logs and journal were not kept; give --keep DIR to have them", err=True)
    sys.exit(done.verdict.exit_code)


@click.command(name="list")
def list_() -> None:
    """Name the scenarios that come with derail, by family, with what must come of each."""
    from derail.report.library import library, render_list

    with usage_errors():
        click.echo(render_list(library()), nl=False)
