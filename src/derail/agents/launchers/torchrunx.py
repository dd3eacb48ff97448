"""torchrunx: a launcher of functions, with an agent process on each host and torch's start_processes below it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from derail.agents.availability import missing, version_of
from derail.agents.external.agent import Job, Said
from derail.agents.external.messages import Invocation
from derail.agents.launchers.functions import FunctionLauncher
from derail.model.exit import ExitStatus
from derail.scenario.model import FailureSeen

if TYPE_CHECKING:
    from derail.agents.external.messages import Seen
    from derail.scenario.model import Promise

_SIGNAL = re.compile(r"WorkerFailedError: Signal (\d+) \(\w+\) received by PID (\d+)")


class Torchrunx(FunctionLauncher):
    """A program that calls ``torchrunx.Launcher`` for this host, without a process group.

    It raises what a worker raised, or that one failed; it says of no rank that it was the first, and has no exit code
    of its own.
    """

    name = "torchrunx"
    promises: frozenset[Promise] = frozenset({"ends", "succeeded", "stopped", "exits", "teardown_seconds", "leftovers"})

    def version(self) -> str:
        """That of torchrunx, and of torch, which starts the workers."""
        return version_of("torchrunx", "torch")

    def unavailable(self) -> str:
        """Both must be there."""
        return missing("torchrunx", "torch")

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """One launcher; its own log files go into the run's directory."""
        argv = (sys.executable, "-u", "-m", "derail.agents.programs.torchrunx", str(job.scenario.ranks))
        env = {**self.fates(job), "TORCHRUNX_LOG_DIR": str(job.directory("torchrunx"))}
        return (Invocation((*argv, job.script, *job.scenario.args), env),)

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """Of a worker that a signal ended it says the process, of others nothing."""
        del job
        ranks = {life.pid: life.rank for life in seen.lives}
        failures = {
            ranks[int(pid)]: FailureSeen(ranks[int(pid)], f"Signal {number}", status=ExitStatus(signal=int(number)))
            for number, pid in _SIGNAL.findall(outputs[0])
            if int(pid) in ranks
        }
        return Said(next(iter(failures), None), failures)
