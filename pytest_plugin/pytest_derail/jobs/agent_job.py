"""``derail.agent``: a job under a supervisor that is not derail, as the test holds it when it is over."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from derail.agents.custom import CommandAgent, Declaration, placeholders, read_declaration
from derail.agents.external.agent import ForeignAgent
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
"""What stands for the program of the ranks where the command line has it already."""


class AgentJob:
    """A job that an agent has supervised, and that is over.

    Attributes:
        name: of the agent.
        plan: the faults.
        workdir: its logs and its journal.
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
        """The journal of the run."""
        return self.workdir / JOURNAL

    def poll(self) -> JobResult:
        """Return the result."""
        return self._result

    def close(self) -> JobResult:
        """Return the result: the job is over."""
        return self._result

    def stop(self, reason: str, *, grace: float | None = None) -> None:
        """There is nothing to stop any more."""

    def pids(self) -> dict[int, int]:
        """The process of each rank, of the last attempt."""
        return {rank: fate.pid for rank, fate in self._result.ranks.items()}

    def forget(self) -> None:
        """No assertion will be made about it any more."""
        close_account(self._result)


class Script(ForeignAgent):
    """A command line that is run as it stands: it knows itself what its ranks are to run."""

    restarts = True

    def __init__(self, argv: Sequence[str]) -> None:
        self.name = os.path.basename(argv[0])
        self._argv = tuple(argv)

    def version(self) -> str:
        """Nobody knows."""
        return ""

    def unavailable(self) -> str:
        """Its program must be there."""
        from shutil import which

        return "" if which(self._argv[0]) else f"there is no program {self._argv[0]!r} here"

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """The command line."""
        del job
        return (Invocation(self._argv),)


def find_agent(command: str | Sequence[str | os.PathLike[str]], declaration: Path | Declaration | None) -> Agent:
    """The agent that a test means: by its name, or by its command line.

    Raises:
        InputError: if there is none of this name, or something is wrong with the command line or the declaration.
        ValueError: if there is nothing to run.
    """
    if isinstance(command, str):
        return registered(command)
    words = [os.fspath(word) for word in command]
    if not words or not words[0]:
        raise ValueError("there is no agent to run: give a name, or a command line of at least one word")
    told = declaration if isinstance(declaration, Declaration) or declaration is None else read_declaration(declaration)
    if told is None and not placeholders(" ".join(words)) & {"script", "command"}:
        return Script(words)
    return CommandAgent(shlex.join(words), told)


def run_agent(agent: Agent, scenario: Scenario, workdir: Path) -> AgentJob:
    """Run a job under an agent to its end.

    Raises:
        ValueError: if it cannot be run under this agent.
        Skipped: if the agent is not there.
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
    """The job as a scenario that expects nothing: that is the test's business.

    Raises:
        FileNotFoundError: if there is no such script.
    """
    worker = NO_WORKER if run is None else Path(run).absolute()
    if run is not None and not worker.is_file():
        raise FileNotFoundError(f"there is no script {worker}")
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
