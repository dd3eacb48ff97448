"""Adapter for torch's elastic agent as a library: ``LocalElasticAgent``, or any subclass of ``SimpleElasticAgent``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import ExternalAgent, Job, Said
from derail.agents.external.messages import Invocation
from derail.agents.launchers.torchrun import PROMISES, own_store
from derail.errors.text import NOT_AVAILABLE
from derail.model.exit import ExitStatus
from derail.scenario.model import FailureSeen

if TYPE_CHECKING:
    from derail.agents.external.messages import Seen
    from derail.scenario.model import Promise

LOCAL = "torch.distributed.elastic.agent.server.local_elastic_agent:LocalElasticAgent"


class TorchElastic(ExternalAgent):
    """External agent that makes and runs an elastic agent in a separate process.

    Args:
        agent: its class, as ``package.module:Class``; it is called with ``spec`` and ``logs_specs``.
        name: its name in reports.
    """

    promises: frozenset[Promise] = PROMISES
    nodes = True
    restarts = True
    evidence = ("report-*.json",)

    def __init__(self, agent: str = LOCAL, *, name: str = "torch_elastic") -> None:
        self.name = name
        self._agent = agent

    def version(self) -> str:
        """Return the version of torch."""
        return version_of("torch")

    def unavailable(self) -> str:
        """Return a sentence if torch is missing; empty otherwise."""
        return missing("torch")

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return one process per node, which makes and runs the agent."""
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
        """Return the failures returned by ``run()`` on the first node with any."""
        del outputs, seen
        for node in range(job.scenario.nodes):
            try:
                report = json.loads((job.workdir / f"report-{node}.json").read_bytes())
            except (OSError, ValueError):  # run() never returned
                continue
            failures = {entry["rank"]: _failure(entry) for entry in report["failures"]}
            if failures:
                return Said(next(iter(failures)), failures)
        return Said()


def _failure(entry: dict[str, object]) -> FailureSeen:
    return FailureSeen(
        int(str(entry["rank"])),
        str(entry["message"]),
        "missing" if entry["error_file"] == NOT_AVAILABLE else "good",
        status=ExitStatus.from_returncode(int(str(entry["code"]))),
    )
