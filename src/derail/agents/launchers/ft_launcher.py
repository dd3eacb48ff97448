"""Adapter for ft_launcher, the launcher of NVIDIA's resiliency extension, with its own copy of torch's agent."""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import ExternalAgent, Job, Said
from derail.agents.external.messages import Invocation
from derail.agents.launchers.torchrun import PROMISES, own_store, rendezvous
from derail.model.exit import ExitStatus
from derail.scenario.model import FailureSeen

if TYPE_CHECKING:
    from derail.agents.external.messages import Seen
    from derail.scenario.model import Promise

_FINE = ("Agent .run() is OK", "exited gracefully")
"""Texts with which it reports success, regardless of earlier messages."""
_FIRST = re.compile(r"failed \(exitcode: -?\d+\) local_rank: (\d+) \(pid: (\d+)\)")
_FAILURE = re.compile(r"(\d+): ProcessFailure\(local_rank=\d+, pid=\d+, exitcode=(-?\d+), error_file='([^']*)'")
_MESSAGE = re.compile(r", message=(.*?), timestamp=", re.DOTALL)


class FtLauncher(ExternalAgent):
    """External agent ``ft_launcher`` without heartbeats, which the ranks of scenarios do not send."""

    name = "ft_launcher"
    promises: frozenset[Promise] = PROMISES
    nodes: bool = True
    restarts: bool = True

    def version(self) -> str:
        """Return the version of the extension, and of torch."""
        return version_of("nvidia-resiliency-ext", "torch")

    def unavailable(self) -> str:
        """Return which of the two packages is missing."""
        return missing("nvidia-resiliency-ext", "torch")

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return one command line per node; the first hosts the rendezvous store."""
        return tuple(Invocation(self._argv(job, node), own_store(job.scenario)) for node in range(job.scenario.nodes))

    def _argv(self, job: Job, node: int) -> tuple[str, ...]:
        scenario = job.scenario
        grace = max(1, round(scenario.grace))
        program = () if job.script.endswith(".py") else ("--no-python",)
        return (
            *(sys.executable, "-m", "nvidia_resiliency_ext.fault_tolerance.launcher"),
            *rendezvous(job, node),
            f"--term-timeout={grace}",
            f"--workers-stop-timeout={grace}",
            *(() if job.shown else ("--redirects=3",)),
            f"--log-dir={job.directory(f'ft-{node}')}",
            "--ignore-missing-fault-tol-cfg",
            *program,
            job.script,
            *scenario.args,
        )

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """Return the report in the last lines of the first node with a failure."""
        del job
        ranks = {life.pid: life.rank for life in seen.lives}
        for output in outputs:
            said = read_report(output, ranks)
            if said.failures or said.blamed is not None:
                return said
        return Said()


def read_report(output: str, ranks: dict[int, int]) -> Said:
    """Return the failures at the end of its output, and the one that its agent saw first.

    Args:
        output: its output.
        ranks: the observed rank of each pid: the line about the first failure has its pid.
    """
    if any(words in output for words in _FINE):
        return Said()
    output = output.rpartition("will restart worker group")[2]
    first = _FIRST.findall(output)
    blamed = ranks.get(int(first[-1][1]), int(first[-1][0])) if first else None
    _, found, report = output.rpartition("Some rank(s) exited with non-zero exit code: ")
    failures: dict[int, FailureSeen] = {}
    for match in _FAILURE.finditer(report if found else ""):
        rank, code, file = int(match[1]), int(match[2]), match[3]
        message = _MESSAGE.search(report, match.end())
        state = "missing" if file == "<N/A>" else "good"
        text = _text(message[1]) if message else ""
        failures[rank] = FailureSeen(rank, text, state, status=ExitStatus.from_returncode(code))  # type: ignore[arg-type]
    if blamed in failures:
        failures = {blamed: failures[blamed], **failures}
    return Said(blamed, failures)


def _text(written: str) -> str:
    """Return a message from its Python representation: a text, or the content of an error file."""
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return written
    return str(value.get("message", value)) if isinstance(value, dict) else str(value)
