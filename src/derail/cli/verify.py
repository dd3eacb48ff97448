"""``derail verify-agent``: many scenarios on one agent, and its scorecard."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from derail.cli.agent_option import chosen_agent, own_agent_options, recording
from derail.cli.budget_option import budget_option, read_budget, under_budget
from derail.cli.evidence import check_writable, evidence_directory, output_dir_option, trace_option
from derail.cli.usage import usage_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from derail.report.scorecard import Scorecard
    from derail.scenario.model import Scenario

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("verify-agent", short_help="Run scenarios on a launcher, and print its scorecard.")
@click.argument("name", required=False)
@own_agent_options
@click.option("--family", "families", multiple=True, metavar="NAME", help="Only scenarios of this family. Repeatable.")
@click.option(
    "--scenario", "chosen", multiple=True, metavar="SCENARIO",
    help="Only these: a name, a pattern like 'crash/*', a TOML file, or a folder of them. Repeatable.",
)  # fmt: skip
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True,
    help="How many scenarios run in parallel; timed ones run alone.",
)  # fmt: skip
@click.option(
    "--record", is_flag=True,
    help="Record the last collectives of each rank: a run that times out then shows which rank the others waited for.",
)  # fmt: skip
@budget_option
@output_dir_option("Keep logs and journals of all runs in this directory, a folder for each.")
@trace_option
@click.option("--json", "json_file", type=_FILE, metavar="FILE", help="Write the scorecard as JSON.")
@click.option("--junit", "junit_file", type=_FILE, metavar="FILE", help="Write it as JUnit XML.")
@click.option("--html", "html_file", type=_FILE, metavar="FILE", help="Write it as one HTML page.")
def verify_agent(  # noqa: PLR0913 - an option each
    *,
    name: str | None,
    agent_command: str | None,
    declaration: Path | None,
    families: tuple[str, ...],
    chosen: tuple[str, ...],
    jobs: int,
    record: bool,
    budget: tuple[str, ...],
    output_dir: Path | None,
    trace: Path | None,
    json_file: Path | None,
    junit_file: Path | None,
    html_file: Path | None,
) -> NoReturn:
    """Run scenarios on the agent NAME, or on one of your own, and print its scorecard.

    An agent is a launcher under test: native (derail's own), torchrun and others; 'derail list agents' lists them.

    Exits with 0 if no scenario is FAIL or INCONCLUSIVE, 1 if one is FAIL, 2 for wrong arguments, 3 if one is
    INCONCLUSIVE and none FAIL, 4 if nothing could be run, and 128 + n if signal n ended it.
    """
    from derail.campaign import campaign
    from derail.cli.tableau import Tableau
    from derail.launch.signals import SignalException
    from derail.report.scorecard_text import render_scorecard

    with usage_errors(), evidence_directory(output_dir) as evidence:
        agent = chosen_agent(name, agent_command, declaration)
        if record:
            agent = recording(agent)
        limits = read_budget(budget)
        scenarios = under_budget(_scenarios(families, chosen), limits)
        writers = _writers(json_file, junit_file, html_file, trace)
        tableau = Tableau(agent.name, len(scenarios), sys.stderr, live=_is_terminal())
        try:
            with tableau:
                card = campaign.verify(
                    agent,
                    scenarios,
                    workdir=evidence.path,
                    jobs=jobs,
                    on_news=tableau.update,
                    keep=output_dir is not None,
                    handle_signals=True,
                )
        except SignalException as asked:
            click.echo(
                f"derail: ended by {asked.sigval.name}, {len(tableau.rows)} of {len(scenarios)} scenarios were judged",
                err=True,
            )
            sys.exit(128 + asked.sigval)
        click.echo(render_scorecard(card), nl=False)
        for path, render in writers:
            path.write_bytes(render(card))
    sys.exit(card.exit_code)


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _scenarios(families: tuple[str, ...], chosen: tuple[str, ...]) -> list[Scenario]:
    """Return the requested scenarios; by default all that come with derail.

    Raises:
        InputError: with all errors of all of them.
    """
    from derail.model.input_error import InputError
    from derail.scenario.load import load

    problems: list[str] = []
    scenarios: dict[str, Scenario] = {}
    for path, name in _files(chosen, problems):
        try:
            scenario = load(path)
        except InputError as error:
            problems.append(str(error))
        else:
            scenarios[name or scenario.name] = _named(scenario, name)
    existing = sorted({scenario.family for scenario in scenarios.values()})
    for family in families:
        if family not in existing and not problems:
            from derail.model.input_error import not_known

            problems.append(f"--family: {not_known(family, existing, 'family')}")
    if problems:
        raise InputError(*problems)
    return [scenario for scenario in scenarios.values() if not families or scenario.family in families]


def _files(chosen: tuple[str, ...], problems: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield the files of scenarios, with a name for those in a given folder."""
    from fnmatch import fnmatchcase

    from derail.model.input_error import InputError
    from derail.scenario.load import find, shipped

    for word in chosen or ("*",):
        if Path(word).is_dir():
            root = Path(word)
            files = sorted(root.rglob("*.toml"))
            yield from ((path, str(path.relative_to(root).with_suffix(""))) for path in files)
        elif any(char in word for char in "*?["):
            files = [path for name, path in shipped().items() if fnmatchcase(name, word)]
            yield from ((path, "") for path in files)
        else:
            try:
                files = [find(word)]
            except InputError as error:
                problems.append(str(error))
                continue
            yield files[0], ""
        if not files:
            problems.append(f"--scenario: no scenario in or like {word}")


def _named(scenario: Scenario, name: str) -> Scenario:
    from dataclasses import replace

    return replace(scenario, name=name) if name else scenario


def _writers(
    json_file: Path | None, junit_file: Path | None, html_file: Path | None, trace: Path | None
) -> list[tuple[Path, Callable[[Scorecard], bytes]]]:
    """Return files and what to write to them, after checking that they can be written.

    Raises:
        OSError: if a file cannot be written.
    """
    from derail.report.html import render_html
    from derail.report.junit import render_junit
    from derail.report.scorecard_json import encode
    from derail.report.trace import render_trace

    wanted: list[tuple[Path | None, Callable[[Scorecard], bytes]]] = [
        (json_file, encode),
        (junit_file, render_junit),
        (html_file, lambda card: render_html(card).encode()),
        (trace, lambda card: render_trace((row.scenario, row.timeline) for row in card.rows)),
    ]
    writers = [(path, render) for path, render in wanted if path is not None]
    for path, _ in writers:
        check_writable(path)
    return writers
