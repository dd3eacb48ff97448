"""torch's elastic agent as a library: ``LocalElasticAgent``, or any other subclass of ``SimpleElasticAgent``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import ForeignAgent, Job, Said
from derail.agents.external.messages import Invocation
from derail.agents.launchers.torchrun import PROMISES, own_store
from derail.errors.text import NOT_AVAILABLE
from derail.model.exit import ExitStatus
from derail.scenario.model import FailureSeen

if TYPE_CHECKING:
    from derail.agents.external.messages import Seen
    from derail.scenario.model import Promise

LOCAL = "torch.distributed.elastic.agent.server.local_elastic_agent:LocalElasticAgent"


class TorchElastic(ForeignAgent):
    """An elastic agent that is made and run in a process of its own.

    Args:
        agent: where its class is, as ``package.module:Class``; it is called with ``spec`` and ``logs_specs``.
        name: what it is called in reports.
    """

    promises: frozenset[Promise] = PROMISES
    nodes = True
    restarts = True
    evidence = ("report-*.json",)

    def __init__(self, agent: str = LOCAL, *, name: str = "torch_elastic") -> None:
        self.name = name
        self._agent = agent

    def version(self) -> str:
        """That of torch."""
        return version_of("torch")

    def unavailable(self) -> str:
        """It comes with torch."""
        return missing("torch")

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """A process for each node, in which the agent is made and run."""
        return tuple(self._invocation(job, node) for node in range(job.scenario.nodes))

    def _invocation(self, job: Job, node: int) -> Invocation:
        order = {
            "agent": self._agent,
            "argv": list(job.rank_argv),
            "ranks": job.ranks_per_node,
            "nodes": job.scenario.nodes,
            "shown": job.shown,
            "node": node,
            "restarts": job.scenario.restarts,
            "port": job.port,
            "logs": str(job.directory(f"torch-{node}")),
            "report": str(job.workdir / f"report-{node}.json"),
        }
        grace = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(max(1, round(job.scenario.grace)))}
        program = (sys.executable, "-m", "derail.agents.programs.elastic", json.dumps(order))
        return Invocation(program, {**grace, **own_store(job.scenario)})

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """The failures that ``run()`` returned, of the first node on which any rank failed."""
        del outputs, seen
        for node in range(job.scenario.nodes):
            try:
                report = json.loads((job.workdir / f"report-{node}.json").read_bytes())
            except (OSError, ValueError):  # it never returned
                continue
            failures = {told["rank"]: _failure(told) for told in report["failures"]}
            if failures:
                return Said(next(iter(failures)), failures)
        return Said()


def _failure(told: dict[str, object]) -> FailureSeen:
    return FailureSeen(
        int(str(told["rank"])),
        str(told["message"]),
        "missing" if told["error_file"] == NOT_AVAILABLE else "good",
        status=ExitStatus.from_returncode(int(str(told["code"]))),
    )
