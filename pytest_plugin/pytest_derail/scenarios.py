"""``pytest --scenarios``: each scenario is a test, run on the agent that ``--derail-agent`` names.

PASS passes, FAIL and INCONCLUSIVE fail, SKIPPED skips, each with its reasons. A file with mistakes is a collection
error.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from derail.agents.registry import agent
from derail.campaign.run_scenario import run_scenario
from derail.model.input_error import InputError
from derail.report.text import render_verdict
from derail.scenario.load import FOLDER, load, shipped_root
from pytest_derail.options import agent_name, keep
from pytest_derail.reporting.artifacts import evidence_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from pathlib import Path

    from derail.agents.agent import Agent
    from derail.campaign.run_scenario import Run


NEEDED = re.compile(r"^(title|ranks|worker|expect)(?=\s*[=.])|^\[(expect)\]", re.MULTILINE)
"""The keys that every scenario needs."""


class ScenarioFailed(Exception):  # noqa: N818 - a name of what happened reads best in a report
    """A scenario did not meet its expectations, or its faults did not verifiably happen."""


def choose_scenarios(config: pytest.Config) -> None:
    """Without paths, choose the scenarios of this project or, if it has none, those that come with derail."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        own = config.rootpath / FOLDER
        config.args = [str(own if own.is_dir() else shipped_root())]
    try:
        agent(agent_name(config))
    except InputError as error:
        raise pytest.UsageError(f"--derail-agent: {error}") from None


def is_scenario(path: Path, parent: pytest.Collector) -> bool:
    """Return whether to collect a file as a scenario.

    It is one if it lies in a scenario folder, is named on the command line, or looks like a scenario. Mistakes in it
    are reported when it is read.
    """
    return path.suffix == ".toml" and (
        FOLDER in path.parts or parent.session.isinitpath(path) or _looks_like_scenario(path)
    )


def _looks_like_scenario(path: Path) -> bool:
    """Return whether a file has at least two of the keys that every scenario needs."""
    from derail.faults.serialization.toml_files import read_text

    try:
        text = read_text(path)
    except InputError:
        return False
    return len(set(NEEDED.findall(text))) >= 2


def none_collected(config: pytest.Config, items: Iterable[pytest.Item]) -> str:
    """Return the message if there is no scenario among the tests; empty if there is one."""
    if any(isinstance(item, ScenarioItem) for item in items):
        return ""
    places = ", ".join(map(str, config.args)) or "."
    return (
        f"derail: --scenarios: no scenario in {places}. A scenario is a TOML file with title, ranks, worker "
        "and [expect]; derail list scenarios shows those that come with derail"
    )


class ScenarioFile(pytest.File):
    """TOML file with a scenario."""

    def collect(self) -> Iterable[ScenarioItem]:
        """Yield one test, named after the agent."""
        try:
            scenario = load(self.path)
        except InputError as error:
            raise self.CollectError(str(error)) from None
        chosen = agent(agent_name(self.config))
        item: ScenarioItem = ScenarioItem.from_parent(self, name=chosen.name)
        item.scenario, item.agent = scenario, chosen
        item.extra_keyword_matches.update((scenario.family, scenario.name))
        yield item


class ScenarioItem(pytest.Item):
    """Scenario on an agent."""

    scenario: Any
    agent: Agent

    def runtest(self) -> None:
        """Run the scenario.

        Raises:
            ScenarioFailed: unless the verdict is PASS.
            Skipped: if the scenario cannot be run here, or on this agent.
        """
        folder = evidence_folder(self.config._tmp_path_factory, self)  # type: ignore[attr-defined] # noqa: SLF001 - as pytest's own
        done = run_scenario(self.scenario, self.agent, workdir=folder)
        if not keep(self.config) and done.verdict.kind in ("PASS", "SKIPPED"):
            shutil.rmtree(folder, ignore_errors=True)
        if done.verdict.kind == "SKIPPED":
            raise pytest.skip.Exception("; ".join(done.verdict.reasons), _use_item_location=True)
        if not done.verdict.passed:
            raise ScenarioFailed(_described(done))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the verdict with its evidence; a traceback only for other errors."""
        if isinstance(excinfo.value, ScenarioFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[os.PathLike[str], int | None, str]:
        """Return the location and the name of the test."""
        return self.path, 0, f"{self.scenario.name} on {self.agent.name}"


def _described(done: Run) -> str:
    return render_verdict(done.scenario, done.result, done.verdict).rstrip("\n")
