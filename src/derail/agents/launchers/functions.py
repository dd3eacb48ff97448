"""A launcher that starts functions, as an agent for programs: each worker runs the program in its own process.

What ends then is the program, not the worker, which may go on, or end in another way. So the fate of a rank is what the
worker wrote down of its program; where it wrote nothing, because it was killed, it is that of its process.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from derail.agents.availability import no_error_files
from derail.agents.external.agent import ForeignAgent, Job
from derail.agents.programs.rank_wrapper import FATES
from derail.model.exit import ExitStatus

if TYPE_CHECKING:
    from pathlib import Path

    from derail.agents.external.messages import Life, Order, Seen
    from derail.scenario.model import JobResult, Scenario

FILE = "fates.jsonl"


class FunctionLauncher(ForeignAgent):
    """What launchers of functions have in common.

    Attributes:
        starts_in: seconds, besides those of the scenario, in which it starts its processes and ends them.
    """

    starts_in: float = 120.0
    evidence = (FILE,)
    takes_streams = True
    shows_script = False

    def fates(self, job: Job) -> dict[str, str]:
        """The variable that makes workers write down what became of their programs."""
        return {FATES: str(job.workdir.absolute() / FILE)}

    def unsupported(self, scenario: Scenario) -> str:
        """Its workers run Python, in one process each, and nobody tells them a file for their errors."""
        if not str(scenario.worker).endswith(".py"):
            return "its workers run Python, and the worker of the scenario is no Python program"
        return super().unsupported(scenario) or no_error_files(scenario)

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """Run it, with the time that it needs to start: that is not the job's."""
        return super().run(replace(scenario, timeout=scenario.timeout + self.starts_in), workdir)

    def _observe(self, job: Job, order: Order, seen: Seen) -> JobResult:
        seen.lives = with_fates(seen.lives, job.workdir / FILE)
        return super()._observe(job, order, seen)


def with_fates(lives: list[Life], path: Path) -> list[Life]:
    """The lives, those whose program came to an end with the status and at the moment that its worker wrote down."""
    told = _read(path)
    found = [
        replace(life, status=ExitStatus(code=told[life.pid][0]), exited_at=told[life.pid][1])
        if life.pid in told
        else life
        for life in lives
    ]
    ended = sorted((life for life in found if life.exited_at is not None), key=lambda life: life.exited_at or 0.0)
    orders = {id(life): order for order, life in enumerate(ended)}
    return [replace(life, order=orders.get(id(life))) for life in found]


def _read(path: Path) -> dict[int, tuple[int, float]]:
    """Code and moment by process; half a line, of a worker that was killed as it wrote, says nothing."""
    found = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            fate = json.loads(line)
            found[int(fate["pid"])] = int(fate["code"]), float(fate["at"])
        except (ValueError, KeyError, TypeError):
            continue
    return found
