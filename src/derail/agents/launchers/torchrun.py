"""Adapter for torchrun: torch's own launcher, one process per node, with a c10d rendezvous on loopback."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import ExternalAgent, Job, Said
from derail.agents.external.messages import Invocation
from derail.model.exit import ExitStatus
from derail.scenario.model import ALL_PROMISES, FailureSeen

if TYPE_CHECKING:
    from derail.agents.external.messages import Seen
    from derail.scenario.model import ErrorFileState, Promise, Scenario

_RULE = re.compile(r"^-{20,}$", re.MULTILINE)
_FIELD = re.compile(r"^\s*(?P<name>time|host|rank|exitcode|error_file|traceback)\s*:\s?(?P<value>.*)$")
_NONE = "<N/A>"
PROMISES: frozenset[Promise] = ALL_PROMISES - {"exit_code", "failures", "forwards_signals", "ends_with_launcher"}
"""Promises of torch's agent and of agents derived from it. Torch documents neither the exit code of its launcher when
ranks fail, nor that only ranks that failed by themselves count as failures, nor the other two promises."""


class Torchrun(ExternalAgent):
    """External agent ``python -m torch.distributed.run``."""

    name = "torchrun"
    promises: frozenset[Promise] = PROMISES
    nodes = True
    restarts = True

    def version(self) -> str:
        """Return the version of torch."""
        return version_of("torch")

    def unavailable(self) -> str:
        """Return a sentence if torch is missing; empty otherwise."""
        return missing("torch")

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return one command line per node; the first hosts the rendezvous store."""
        env = own_store(job.scenario)
        return tuple(Invocation(self._argv(job, node), env) for node in range(job.scenario.nodes))

    def program(self) -> tuple[str, ...]:
        """Return the command before the options."""
        return (sys.executable, "-m", "torch.distributed.run")

    def _argv(self, job: Job, node: int) -> tuple[str, ...]:
        scenario = job.scenario
        words = [
            *self.program(),
            *rendezvous(job, node),
            f"--shutdown-timeout={max(1, round(scenario.grace))}",
            *(() if job.shown else ("--redirects=3",)),
            f"--log-dir={job.directory(f'torch-{node}')}",
        ]
        return (*words, job.script, *scenario.args) if job.script.endswith(".py") else (
            *words, "--no-python", job.script, *scenario.args,
        )  # fmt: skip

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """Return the table of its ``ChildFailedError``.

        With several nodes, each node prints one. The first that names a failure of a rank counts, as the others contain
        ranks that they were asked to stop.
        """
        del job, seen
        for output in outputs:
            said = read_report(output)
            if said.failures:
                return said
        return Said()


class DerailTorchrun(Torchrun):
    """External agent ``derail torchrun``: torchrun with derail's launcher."""

    name = "derail-torchrun"
    promises: frozenset[Promise] = ALL_PROMISES

    def program(self) -> tuple[str, ...]:
        """Return the command before the options."""
        return (sys.executable, "-m", "derail.torch")


def rendezvous(job: Job, node: int) -> tuple[str, ...]:
    """Return the options of torchrun, and of launchers modelled on it, for a job and its rendezvous."""
    scenario = job.scenario
    return (
        f"--nnodes={scenario.nodes}",
        f"--nproc-per-node={job.ranks_per_node}",
        f"--max-restarts={scenario.restarts}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{job.port}",
        f"--rdzv-id=derail-{job.port}",
        f"--rdzv-conf=is_host={int(node == 0)},join_timeout=60",
        "--local-addr=127.0.0.1",
        "--monitor-interval=0.1",
    )


def own_store(scenario: Scenario) -> dict[str, str]:
    """Return the variable that makes torch's agent leave MASTER_PORT to rank 0.

    By default the agent itself hosts a store there, which only torch can use. Scenarios with torch keep the default.
    """
    return {} if "torch" in scenario.needs else {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def read_report(output: str) -> Said:
    """Return the failures in torchrun's report, root cause first.

    The report has a header, a rule, "Failures:" with a block for each other failure, a rule, and "Root Cause (first
    observed failure):" with its block. A block has a line for each of time, host, rank, exitcode, error_file,
    traceback.
    """
    _, found, report = output.rpartition("Failures:")
    if not found:
        return Said()
    others, _, cause = report.partition("Root Cause (first observed failure):")
    named = [*_failures(cause), *_failures(others)]
    failures = {failure.rank: failure for failure in reversed(named)}
    ordered = {failure.rank: failures[failure.rank] for failure in named}
    return Said(named[0].rank if named else None, ordered)


def _failures(text: str) -> list[FailureSeen]:
    """Return the failures in one part of the report, in its order."""
    found: list[FailureSeen] = []
    for block in re.split(r"^\[\d+\]:$", text, flags=re.MULTILINE)[1:]:
        fields: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            match = _FIELD.match(line) if last != "traceback" else None
            if match is not None:
                last = match["name"]
                fields[last] = match["value"].strip()
            elif line.startswith(("---", "===")):
                break
            elif last:
                fields[last] += f"\n{line}"
        rank = re.match(r"\d+", fields.get("rank", ""))
        if rank is not None:
            found.append(_failure(int(rank[0]), fields))
    return found


def _failure(rank: int, fields: dict[str, str]) -> FailureSeen:
    code = re.match(r"-?\d+", fields.get("exitcode", ""))
    state: ErrorFileState = "missing" if fields.get("error_file", _NONE) == _NONE else "good"
    status = None if code is None else ExitStatus.from_returncode(int(code[0]))
    return FailureSeen(rank, fields.get("traceback", "").strip(), state, status=status)
