"""``derail run``: one scenario on one agent, and its verdict."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from derail.cli.agent_option import chosen_agent, is_described, own_agent_options, recording
from derail.cli.budget_option import budget_option, duration, read_budget, under_budget
from derail.cli.display import display, show, watch_faults
from derail.cli.evidence import check_writable, evidence_directory, output_dir_option, trace_option
from derail.cli.goodput import measure_goodput, read_breaking
from derail.cli.survive import is_survive_file, repeat_break
from derail.cli.usage import usage_errors

if TYPE_CHECKING:
    from derail.agents.agent import Agent
    from derail.campaign.run_scenario import Run
    from derail.scenario.model import Scenario

NATIVE = "native"


@click.command(short_help="Run one scenario on an agent, and judge it.")
@click.argument("scenario")
@click.option(
    "--agent", metavar="NAME",
    help="The launcher that runs the ranks; 'derail list agents' lists them. Default native, derail's own.",
)  # fmt: skip
@own_agent_options
@click.option(
    "--record", is_flag=True,
    help="Record the last collectives of each rank: a scenario that times out then shows which rank the others waited "
    "for.",
)  # fmt: skip
@budget_option
@click.option(
    "--mtbf", metavar="TIME", callback=duration,
    help="Break the job again and again, with this mean time between two breaks, and report its goodput.",
)  # fmt: skip
@click.option("--for", "seconds", metavar="TIME", callback=duration, help="With --mtbf: for this time, like 5m.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), metavar="N", help="With --mtbf: the seed of the schedule. Default 0."
)
@click.option(
    "--quiet", metavar="TIME", callback=duration,
    help="With --mtbf: the time of the quiet run, for comparison. Default a tenth of --for, at least 5s.",
)  # fmt: skip
@click.option(
    "--quiet-rate", type=click.FloatRange(min=0, min_open=True), metavar="RATE",
    help="With --mtbf: steps per second of a quiet run, if they are known; there is no quiet run then.",
)  # fmt: skip
@output_dir_option("Keep logs and journal in this directory.")
@trace_option
@click.option("--json", "as_json", is_flag=True, help="Print the verdict and its evidence as JSON.")
def run(  # noqa: PLR0913 - an option each
    *,
    scenario: str,
    agent: str | None,
    agent_command: str | None,
    declaration: Path | None,
    record: bool,
    budget: tuple[str, ...],
    mtbf: float | None,
    seconds: float | None,
    seed: int | None,
    quiet: float | None,
    quiet_rate: float | None,
    output_dir: Path | None,
    trace: Path | None,
    as_json: bool,
) -> NoReturn:
    """Run a scenario, a TOML file or the name of one that comes with derail, and judge the result.

    A scenario file that 'derail survive' has written repeats its break.

    Exits with 0 for PASS, 1 for FAIL, 2 if the scenario cannot be read, 3 for INCONCLUSIVE (a fault did not verifiably
    happen), 4 for SKIPPED (it cannot be run on this machine).

    With --mtbf and --for, its expectations are not judged: a rank is killed again and again, or the scenario's own
    faults that act at a time are repeated. The agent restarts the job, and the steps that it makes are counted. Exits
    with 0, with 1 beyond a --budget, and with 3 if nothing could be measured.
    """
    from derail.campaign import campaign

    if scenario.endswith(".toml") and is_survive_file(Path(scenario)):
        repeat_break(Path(scenario), output_dir=output_dir, as_json=as_json)
    with usage_errors():
        if agent is None and not is_described(agent_command, declaration):
            agent = NATIVE
        under_test = chosen_agent(agent, agent_command, declaration)
        if record:
            under_test = recording(under_test)
        limits, breaking = read_budget(budget), read_breaking(mtbf, seconds, seed, quiet, quiet_rate)
        if breaking is not None:
            if record or trace is not None:
                raise ValueError("--mtbf: cannot be combined with --record or --trace, which are about one run")
            broken = campaign.load_scenario(scenario)
            measure_goodput(broken, under_test, breaking, limits, output_dir=output_dir, as_json=as_json)
        check_writable(trace)
        [loaded] = under_budget([campaign.load_scenario(scenario)], limits)  # before earlier evidence is cleared
    done = _judge(loaded, under_test, record=record, output_dir=output_dir, trace=trace, as_json=as_json)
    if under_test.unsupported(loaded):
        click.echo(f"derail: {_others(loaded, scenario)}", err=True)
    sys.exit(done.verdict.exit_code)


def _judge(
    scenario: Scenario, agent: Agent, *, record: bool, output_dir: Path | None, trace: Path | None, as_json: bool
) -> Run:
    """Run a scenario once, and print its verdict."""
    import json
    from dataclasses import replace

    from derail.campaign.campaign import as_data
    from derail.launch.signals import SignalException
    from derail.report.text import render_verdict
    from derail.report.timeline import observed
    from derail.report.trace import render_trace

    with usage_errors(), evidence_directory(output_dir, of_one_run=True) as evidence:
        try:
            done = _run(scenario, agent, evidence.path, record=record)
        except SignalException as asked:
            click.echo(f"derail: ended by {asked.sigval.name}", err=True)
            sys.exit(128 + asked.sigval)
        if trace is not None:
            trace.write_bytes(render_trace([(scenario.name, observed(done.result))]))
        if output_dir is None:  # the journal will be removed
            done = replace(done, result=replace(done.result, journal=None, workdir=None))
        if as_json:
            click.echo(json.dumps(as_data(done), indent=2))
        else:
            show(render_verdict(scenario, done.result, done.verdict))
            if output_dir is None and done.verdict.kind not in ("PASS", "SKIPPED"):
                click.echo("logs and journal were not kept; use --output-dir DIR to keep them", err=True)
    return done


def _run(scenario: Scenario, agent: Agent, workdir: Path, *, record: bool) -> Run:
    """Run the scenario, and show ranks of derail's own launcher while they run.

    Raises:
        SignalException: if this process was asked to end during the run; nothing is left of the job.
    """
    from derail.agents.native import NativeAgent
    from derail.campaign import campaign
    from derail.campaign.runner import Signals

    if not isinstance(agent, NativeAgent):
        with Signals():
            return campaign.run_scenario(scenario, agent, workdir=workdir)
    with display(scenario.ranks, scenario.faults, live=True) as progress:
        watched = NativeAgent(
            observers=[progress],
            started=lambda job: watch_faults(progress, job),
            handle_signals=True,
            record=record,
        )
        return campaign.run_scenario(scenario, watched, workdir=workdir)


def _others(loaded: Scenario, name: str) -> str:
    """Return the other agents that can run a scenario that this one cannot, and the command."""
    from derail.agents import registry

    able: list[str] = []
    elsewhere: list[str] = []
    for other, make in registry.agents().items():
        try:
            agent = make()
            if not agent.unsupported(loaded):
                (elsewhere if agent.unavailable() else able).append(other)
        except Exception:  # installed packages offer agents, and may raise anything
            continue
    if able:
        return f"{', '.join(able)} can run it: derail run {name} --agent {able[0]}"
    others = f"; {', '.join(elsewhere)} could, but cannot be run here" if elsewhere else ""
    return f"no agent that can be run here supports it{others} (for your own: derail run {name} --agent-cmd)"
