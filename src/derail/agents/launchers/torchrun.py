"""torchrun: torch's own launcher, one process per node, with c10d rendezvous on loopback."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import ForeignAgent, Job, Said
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
"""Of what torch's agent and those that are made of it do. Torch documents neither which exit code its launcher has when
ranks fail, nor that only ranks which failed by themselves are among the failures, nor the other two."""


class Torchrun(ForeignAgent):
    """``python -m torch.distributed.run``."""

    name = "torchrun"
    promises: frozenset[Promise] = PROMISES
    nodes = True
    restarts = True

    def version(self) -> str:
        """That of torch."""
        return version_of("torch")

    def unavailable(self) -> str:
        """It comes with torch."""
        return missing("torch")

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """One for each node; the first one keeps the store of the rendezvous."""
        env = own_store(job.scenario)
        return tuple(Invocation(self._argv(job, node), env) for node in range(job.scenario.nodes))

    def program(self) -> tuple[str, ...]:
        """What comes before the options."""
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
        """What stands in the table of its ``ChildFailedError``. Of several nodes each has one; the first counts that
        names a failure of a rank, as the others tell of ranks that they were asked to stop."""
        del job, seen
        for output in outputs:
            said = read_report(output)
            if said.failures:
                return said
        return Said()


class DerailTorchrun(Torchrun):
    """``derail torchrun``: the same with derail's launcher."""

    name = "derail-torchrun"
    promises: frozenset[Promise] = ALL_PROMISES

    def program(self) -> tuple[str, ...]:
        """What comes before the options."""
        return (sys.executable, "-m", "derail.torch")


def rendezvous(job: Job, node: int) -> tuple[str, ...]:
    """The options that torchrun, and what was made after it, has for a job and for how its nodes meet."""
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
    """What torch's agent is told so that rank 0 may listen at MASTER_PORT: by default it keeps a store there itself,
    which only torch knows how to use. Ranks that import torch get that as it is."""
    return {} if "torch" in scenario.needs else {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def read_report(output: str) -> Said:
    """The failures that torchrun's report names, root cause first.

    The report has a head, a rule, "Failures:" with a block for each other failure, a rule, "Root Cause (first observed
    failure):" and the block of that. A block has a line for each of time, host, rank, exitcode, error_file, traceback.
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
    """The failures of one part of the report, in its order."""
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
    told = re.match(r"-?\d+", fields.get("exitcode", ""))
    state: ErrorFileState = "missing" if fields.get("error_file", _NONE) == _NONE else "good"
    status = None if told is None else ExitStatus.from_returncode(int(told[0]))
    return FailureSeen(rank, fields.get("traceback", "").strip(), state, status=status)
