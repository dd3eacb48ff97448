"""Adapter for accelerate launch: torch's agent behind Hugging Face's command, as called for several processes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import ExternalAgent, Job, Said
from derail.agents.external.messages import Invocation
from derail.agents.launchers.torchrun import PROMISES, own_store, read_report

if TYPE_CHECKING:
    from derail.agents.external.messages import Seen
    from derail.scenario.model import Promise


class Accelerate(ExternalAgent):
    """External agent ``accelerate launch --multi_gpu``: it starts ranks by torch's agent, whatever device they use.

    None of its options writes the ranks' output to files, so it does not promise log tails.
    """

    name = "accelerate"
    promises: frozenset[Promise] = PROMISES - {"log_tail"}
    nodes: bool = True
    restarts: bool = True

    def version(self) -> str:
        """Return the version of accelerate, and of torch, which does the work."""
        return version_of("accelerate", "torch")

    def unavailable(self) -> str:
        """Return which of the two packages is missing."""
        return missing("accelerate", "torch")

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return one command line per node; the first hosts the rendezvous store, and user configuration is ignored."""
        home = {**own_store(job.scenario), "HF_HOME": str(job.directory("accelerate"))}
        return tuple(Invocation(self._argv(job, node), home) for node in range(job.scenario.nodes))

    def _argv(self, job: Job, node: int) -> tuple[str, ...]:
        scenario = job.scenario
        # On one machine it uses its port for the static rendezvous only; with c10d all jobs would use port 29400.
        conf = ("--rdzv_backend=c10d", f"--rdzv_conf=is_host={int(node == 0)},join_timeout=60")
        rendezvous = conf if scenario.nodes > 1 else ()
        program = () if job.script.endswith(".py") else ("--no_python",)
        return (
            *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"),
            f"--num_processes={scenario.ranks}",
            f"--num_machines={scenario.nodes}",
            f"--machine_rank={node}",
            "--main_process_ip=127.0.0.1",
            f"--main_process_port={job.port}",
            *rendezvous,
            f"--max_restarts={scenario.restarts}",
            "--monitor_interval=0.1",
            *("--mixed_precision=no", "--dynamo_backend=no", "--num_cpu_threads_per_process=1"),
            *program,
            job.script,
            *scenario.args,
        )

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """Return torch's report."""
        del job, seen
        return next((said for said in map(read_report, outputs) if said.failures), Said())
