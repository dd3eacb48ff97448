"""Base of adapters for launchers of functions: each worker process runs the rank's program in itself.

The program ends before the worker, which may continue, or end in another way. So the exit status of a rank is the one
that the worker recorded for its program. A worker that was killed has recorded none: then the process's status counts.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from derail.agents.availability import no_error_files
from derail.agents.external.agent import ExternalAgent, Job
from derail.agents.programs.rank_wrapper import FATES
from derail.model.exit import ExitStatus

if TYPE_CHECKING:
    from pathlib import Path

    from derail.agents.external.messages import Life, Order, Seen
    from derail.scenario.model import JobResult, Scenario

FILE = "fates.jsonl"


class FunctionLauncher(ExternalAgent):
    """Base of external agents that launch functions.

    Attributes:
        starts_in: seconds to start and end its processes, in addition to those of the scenario.
    """

    starts_in: float = 120.0
    evidence = (FILE,)
    takes_streams = True
    shows_script = False

    def fates(self, job: Job) -> dict[str, str]:
        """Return the variable that makes workers record the exit status of their programs."""
        return {FATES: str(job.workdir.absolute() / FILE)}

    def unsupported(self, scenario: Scenario) -> str:
        """Return why it cannot run the scenario: its workers run only Python, and have no error files."""
        if not str(scenario.worker).endswith(".py"):
            return "its workers run Python, and the worker of the scenario is no Python program"
        return super().unsupported(scenario) or no_error_files(scenario)

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """Run it with additional time for its start, which does not belong to the job."""
        return super().run(replace(scenario, timeout=scenario.timeout + self.starts_in), workdir)

    def _observe(self, job: Job, order: Order, seen: Seen) -> JobResult:
        seen.lives = with_fates(seen.lives, job.workdir / FILE)
        return super()._observe(job, order, seen)


def with_fates(lives: list[Life], path: Path) -> list[Life]:
    """Return the lives with the status and time of their program's exit, where a worker recorded them."""
    fates = _read(path)
    found = [
        replace(life, status=ExitStatus(code=fates[life.pid][0]), exited_at=fates[life.pid][1])
        if life.pid in fates
        else life
        for life in lives
    ]
    ended = sorted((life for life in found if life.exited_at is not None), key=lambda life: life.exited_at or 0.0)
    orders = {id(life): order for order, life in enumerate(ended)}
    return [replace(life, order=orders.get(id(life))) for life in found]


def _read(path: Path) -> dict[int, tuple[int, float]]:
    """Return exit code and time by pid, without the partial line of a worker that was killed as it wrote."""
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
