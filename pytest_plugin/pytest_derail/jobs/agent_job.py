"""``derail.agent``: a finished job under an external agent, as the test sees it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from derail.agents.custom import CommandAgent, Declaration, placeholders, read_declaration
from derail.agents.external.agent import ExternalAgent
from derail.agents.external.messages import Invocation
from derail.agents.registry import agent as registered
from derail.faults.engine.journal import JOURNAL
from derail.scenario.model import Scenario
from pytest_derail.jobs.expectations import Account, close_account, open_account

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from derail.agents.agent import Agent
    from derail.agents.external.agent import Job
    from derail.faults.model.plan import Plan
    from derail.scenario.model import JobResult

NO_WORKER = Path("no-worker")
"""Placeholder for the program of the ranks if the command line contains the program already."""


class AgentJob:
    """Finished job of an agent.

    Attributes:
        name: name of the agent.
        plan: the faults.
        workdir: folder with its logs and its journal.
        is_program: whether derail can run it again from its journal.
    """

    is_program = False

    def __init__(self, name: str, plan: Plan, workdir: Path, result: JobResult) -> None:
        self.name = name
        self.plan = plan
        self.workdir = workdir
        self.account = Account()
        self._result = result
        open_account(result, self.account)

    @property
    def journal(self) -> Path:
        """Journal of the run."""
        return self.workdir / JOURNAL

    def poll(self) -> JobResult:
        """Return the result."""
        return self._result

    def close(self) -> JobResult:
        """Return the result: the job is over."""
        return self._result

    def stop(self, reason: str, *, grace: float | None = None) -> None:
        """Do nothing: the job is over."""

    def pids(self) -> dict[int, int]:
        """Return the process id of each rank in the last attempt."""
        return {rank: fate.pid for rank, fate in self._result.ranks.items()}

    def forget(self) -> None:
        """End the recording of assertions: none will follow."""
        close_account(self._result)


class Script(ExternalAgent):
    """Agent for a command line that is run unchanged, because it contains the program of its ranks."""

    restarts = True

    def __init__(self, argv: Sequence[str]) -> None:
        self.name = os.path.basename(argv[0])
        self._argv = tuple(argv)

    def version(self) -> str:
        """Return an empty text: the version is unknown."""
        return ""

    def unavailable(self) -> str:
        """Return a reason if its program does not exist."""
        from shutil import which

        return "" if which(self._argv[0]) else f"program not found: {self._argv[0]!r}"

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return the command line."""
        del job
        return (Invocation(self._argv),)


def find_agent(command: str | Sequence[str | os.PathLike[str]], declaration: Path | Declaration | None) -> Agent:
    """Return the agent of a test, by its name or by its command line.

    Raises:
        InputError: if no agent has this name, or the command line or the declaration is wrong.
        ValueError: if the command line is empty.
    """
    if isinstance(command, str):
        return registered(command)
    words = [os.fspath(word) for word in command]
    if not words or not words[0]:
        raise ValueError("agent: empty command line. Give a name, or a command line of at least one word")
    if declaration is not None and not isinstance(declaration, Declaration):
        declaration = read_declaration(declaration)
    if declaration is None and not placeholders(" ".join(words)) & {"script", "command"}:
        return Script(words)
    return CommandAgent(shlex.join(words), declaration)


def run_agent(agent: Agent, scenario: Scenario, workdir: Path) -> AgentJob:
    """Run a job under an agent to its end.

    Raises:
        ValueError: if the agent does not support the job.
        Skipped: if the agent is not installed.
    """
    import pytest

    __tracebackhide__ = True
    if reason := agent.unavailable():
        pytest.skip(f"{agent.name}: {reason}")
    if reason := agent.unsupported(scenario):
        raise ValueError(f"{agent.name}: {reason}")
    return AgentJob(agent.name, scenario.faults, workdir, agent.run(scenario, workdir))


def job_of(
    run: str | Path | None,
    *,
    ranks: int,
    args: Sequence[str],
    env: Mapping[str, str],
    plan: Plan,
    timeout: float,
    grace: float,
    nodes: int,
    restarts: int,
) -> Scenario:
    """Return the job as a scenario without expectations: the test checks the result.

    Raises:
        FileNotFoundError: if the script does not exist.
    """
    worker = NO_WORKER if run is None else Path(run).absolute()
    if run is not None and not worker.is_file():
        raise FileNotFoundError(f"script not found: {worker}")
    return Scenario(
        title="a job of a test",
        ranks=ranks,
        worker=worker,
        faults=plan,
        args=tuple(map(str, args)),
        env=env,
        timeout=timeout,
        grace=grace,
        nodes=nodes,
        restarts=restarts,
    )
