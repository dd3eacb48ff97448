"""Adapter for Ray Train: its torch trainer with a failure policy, on a private Ray on this machine."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import Job, Said
from derail.agents.external.messages import Invocation
from derail.agents.launchers.functions import FunctionLauncher
from derail.platform.private_files import make_private
from derail.scenario.model import FailureSeen

if TYPE_CHECKING:
    from derail.agents.external.messages import Seen
    from derail.scenario.model import JobResult, Promise, Scenario

_SNIPPET = re.compile(
    r"^\[Rank (\d+) Error Snippet\]:\n(.*?)(?=^\[Rank \d+ Error Snippet\]|\Z)", re.MULTILINE | re.DOTALL
)
_OTHERS = re.compile(r"^\x1b\[\d+m\(.*\n?", re.MULTILINE)
"""Lines that Ray relays from its processes, each with a coloured name."""
_DEAD = re.compile(r"^\s*pid: (\d+)$", re.MULTILINE)
_ERROR = re.compile(r"^ray\.train\.\w+Error: ", re.MULTILINE)


class RayTrain(FunctionLauncher):
    """External agent for a program that calls ``TorchTrainer(...).fit()``; the ranks are actors of its worker group.

    It reports the ranks that failed, with their exceptions. A worker's process belongs to Ray: it runs the program in a
    thread, and its exit is not the program's.
    """

    name = "ray_train"
    promises: frozenset[Promise] = frozenset(
        {"ends", "succeeded", "root_cause", "failures", "message", "restarts", "resumed_at", "leftovers"}
    )
    restarts: bool = True

    def version(self) -> str:
        """Return the version of Ray, and of torch."""
        return version_of("ray", "torch")

    def unavailable(self) -> str:
        """Return which package is missing: Ray, torch, or another one that ``import ray.train`` needs."""
        return missing("ray", "torch", "fsspec", "pandas", "pyarrow", "requests")

    def unsupported(self, scenario: Scenario) -> str:
        """Return why it cannot run the scenario: in-rank faults act in the main thread, which is Ray's."""
        from derail.faults.engine.prepare import environment

        if why := super().unsupported(scenario):
            return why
        ranks = range(scenario.ranks)
        inside = environment(scenario.faults, ranks, journal=Path(), job="", environ={})
        return "it runs the program in a thread, and the fault acts in the main thread of a rank" if inside else ""

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """Run it with a short directory for Ray, as its sockets have long names, and keep Ray's logs."""
        with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
            make_private(workdir)
            (workdir / "ray").unlink(missing_ok=True)
            (workdir / "ray").symlink_to(directory)
            try:
                return super().run(scenario, workdir)
            finally:
                (workdir / "ray").unlink()
                for logs in Path(directory).glob("session_2*/logs"):
                    shutil.copytree(logs, workdir / "ray", dirs_exist_ok=True, ignore_dangling_symlinks=True)

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return the one program, which starts its own Ray without usage reports."""
        scenario = job.scenario
        directory = str((job.workdir / "ray").resolve())
        argv = (sys.executable, "-u", "-m", "derail.agents.programs.ray", directory, str(scenario.ranks))
        env = {
            **self.fates(job),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DEDUP_LOGS": "0",
        }
        return (Invocation((*argv, str(scenario.restarts), job.script, *scenario.args), env),)

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """Return the report in the error that ``fit`` raised."""
        del job
        return read_report(outputs[0], {life.pid: life.rank for life in seen.lives})


def read_report(output: str, ranks: dict[int, int]) -> Said:
    """Return the ranks with quoted errors, or the one with a dead process; a single one is the root cause.

    Args:
        output: the program's output; the last error of Ray in it is the final one.
        ranks: the observed rank of each pid.
    """
    output = _OTHERS.sub("", output)
    starts = [match.start() for match in _ERROR.finditer(output)]
    report = output[starts[-1] :] if starts else ""
    failures = {int(match[1]): FailureSeen(int(match[1]), match[2].strip()) for match in _SNIPPET.finditer(report)}
    if not failures:
        dead = [ranks[int(pid)] for pid in _DEAD.findall(report) if int(pid) in ranks]
        failures = {rank: FailureSeen(rank, " ".join(report.split())) for rank in dead}
    return Said(next(iter(failures)) if len(failures) == 1 else None, failures)
