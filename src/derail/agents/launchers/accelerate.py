"""accelerate launch: torch's launcher behind Hugging Face's command, as it is called for several processes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import ForeignAgent, Job, Said
from derail.agents.external.messages import Invocation
from derail.agents.launchers.torchrun import PROMISES, own_store, read_report

if TYPE_CHECKING:
    from derail.agents.external.messages import Seen
    from derail.scenario.model import Promise


class Accelerate(ForeignAgent):
    """``accelerate launch --multi_gpu``, which starts the ranks by torch's agent, whatever they compute on.

    Nothing in its options makes files of what ranks print, so that it has no log to be asked for.
    """

    name = "accelerate"
    promises: frozenset[Promise] = PROMISES - {"log_tail"}
    nodes: bool = True
    restarts: bool = True

    def version(self) -> str:
        """That of accelerate, and of torch, which does the work."""
        return version_of("accelerate", "torch")

    def unavailable(self) -> str:
        """Both must be there."""
        return missing("accelerate", "torch")

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """One for each node; the first one keeps the store of the rendezvous. No configuration of the user is read."""
        home = {**own_store(job.scenario), "HF_HOME": str(job.directory("accelerate"))}
        return tuple(Invocation(self._argv(job, node), home) for node in range(job.scenario.nodes))

    def _argv(self, job: Job, node: int) -> tuple[str, ...]:
        scenario = job.scenario
        # On one machine it takes its port for the static rendezvous only; with c10d all jobs would meet at port 29400.
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
        """What torch's report says."""
        del job, seen
        return next((said for said in map(read_report, outputs) if said.failures), Said())
