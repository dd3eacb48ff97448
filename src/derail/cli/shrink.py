"""``derail shrink``: the fewest faults with which a scenario still fails."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

import click

from derail.cli.agent_option import chosen_agent, is_described, own_agent_options
from derail.cli.evidence import check_writable
from derail.cli.usage import USAGE, usage_errors

if TYPE_CHECKING:
    from derail.agents.agent import Agent
    from derail.campaign.shrink import Candidate, Outcome, Search
    from derail.scenario.model import Scenario, Verdict


@click.command(short_help="Reduce a failing scenario to the fewest faults that still fail.")
@click.argument("scenario")
@click.option("--agent", metavar="NAME", help="The launcher that runs the ranks. Default native, derail's own.")
@own_agent_options
@click.option(
    "-k", "--repeat", type=click.IntRange(min=1), default=1, show_default=True,
    help="Most runs of a candidate. Raise it for a flaky failure, to 20 for one that fails half of the time.",
)  # fmt: skip
@click.option(
    "--max-runs", "most", type=click.IntRange(min=1),
    help="Most runs of the whole search. Default 200, or 20 times --repeat if that is more.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("shrunk.toml"),
    show_default=True, help="File for the reduced scenario.",
)  # fmt: skip
def shrink(
    *,
    scenario: str,
    agent: str | None,
    agent_command: str | None,
    declaration: Path | None,
    repeat: int,
    most: int | None,
    output: Path,
) -> NoReturn:
    """Reduce SCENARIO, a TOML file or the name of one that comes with derail, to the fewest faults that still fail.

    A run still fails if one of the unmet expectations of the first failing run is unmet in the same way. An
    INCONCLUSIVE run counts neither as failing nor as passing. With --repeat, all faults are run so often first; then a
    candidate is run until it is decided, with 5 % of error each way, whether it fails as often or five times more
    rarely. After Ctrl-C, the best candidate so far is written.

    Exits with 0 if the reduced scenario was written, and without any one of its faults it does not fail, 1 if it may
    be reducible because --max-runs was reached or runs were INCONCLUSIVE, 2 if the scenario passes or cannot be read,
    3 if it is INCONCLUSIVE, 4 if it is SKIPPED, and 128 + n if signal n ended it.
    """
    from derail.campaign import campaign
    from derail.campaign.runner import Signals
    from derail.campaign.shrink import Search
    from derail.launch.signals import SignalException

    with usage_errors():
        if agent is None and not is_described(agent_command, declaration):
            agent = "native"
        under_test = chosen_agent(agent, agent_command, declaration)
        if scenario.endswith(".jsonl"):
            raise ValueError(f"{scenario}: expected a scenario, got a journal. Give the scenario of that run")
        loaded = campaign.load_scenario(scenario)
        if loaded.path is not None and output.resolve() == loaded.path.resolve():
            raise ValueError(f"--output: {output} is the scenario to reduce. Give another file")
        existed = output.exists()
        check_writable(output)
        trial = _Trial(loaded, under_test)
        search = Search(trial.run, repeat, most or max(200, 20 * repeat))
        ended = 0
        try:
            with Signals():
                search.reduce(len(loaded.faults.faults))
                search.count_again()
        except SignalException as asked:
            ended = 128 + asked.sigval
        if search.best is None:
            if not existed:
                output.unlink()
            click.echo(f"derail: {scenario}: nothing to reduce: it is {_first(trial)} in {search.runs} runs", err=True)
            sys.exit(ended or (trial.first.exit_code if trial.first is not None else 0) or USAGE)
        _write(loaded, search, output)
    sys.exit(ended or (0 if search.complete else 1))


def _first(trial: _Trial) -> str:
    if trial.first is None:
        return "not judged"
    return "; ".join((trial.first.kind, *trial.first.reasons))


class _Trial:
    """Runs of candidates, compared with the first run that failed."""

    def __init__(self, scenario: Scenario, agent: Agent) -> None:
        self.scenario, self.agent = scenario, agent
        self.first: Verdict | None = None
        self.symptoms: frozenset[tuple[str, str, str]] = frozenset()

    def run(self, candidate: Candidate) -> Outcome:
        """Run a candidate once in a temporary directory, and judge it."""
        from derail.campaign import campaign
        from derail.campaign.shrink import symptoms

        plan = replace(self.scenario.faults, faults=tuple(self.scenario.faults.faults[place] for place in candidate))
        with TemporaryDirectory(prefix="derail-shrink-") as workdir:
            done = campaign.run_scenario(replace(self.scenario, faults=plan), self.agent, workdir=Path(workdir))
        if self.first is None or (not self.symptoms and done.verdict.kind == "FAIL"):
            self.first, self.symptoms = done.verdict, symptoms(done.verdict)
        if done.verdict.kind == "FAIL":
            return "fails" if symptoms(done.verdict) & self.symptoms else "passes"
        return "passes" if done.verdict.kind == "PASS" else "unknown"


def _write(scenario: Scenario, search: Search, output: Path) -> None:
    from derail.campaign.shrink import scenario_text, without_one
    from derail.errors.text import neutral

    assert search.best is not None
    faults = scenario.faults.faults
    kept = replace(scenario.faults, faults=tuple(faults[place] for place in search.best))
    names = ", ".join(fault.id for fault in kept.faults) or "none"
    lines = [f"{search.counts[search.best]} with these {len(search.best)} of {len(faults)} faults: {names}"]
    for place, rest in zip(search.best, without_one(search.best), strict=True):
        without = search.counts.get(rest)
        if without is not None and without.judged:
            lines.append(f"without {faults[place].id}: {without}")
    if removed := [fault.id for place, fault in enumerate(faults) if place not in search.best]:
        lines.append(f"left out: {', '.join(removed)}")
    lines.append(f"{search.runs} runs" + ("" if search.complete else "; not complete, may be reducible further"))
    lines = [neutral(line) for line in lines]
    output.write_text(scenario_text(scenario, kept, output.parent, tuple(lines)))
    click.echo("\n".join([*lines, f"written to {output}"]))
