"""Adapter for torchrunx: a launcher of functions, with an agent per host and torch's start_processes below it."""

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
    """External agent for a program that calls ``torchrunx.Launcher`` for this host, without a process group.

    It raises the exception of a worker, or an error that one failed. It does not report which rank was first, and has
    no exit codes.
    """

    name = "torchrunx"
    promises: frozenset[Promise] = frozenset({"ends", "succeeded", "stopped", "exits", "teardown_seconds", "leftovers"})

    def version(self) -> str:
        """Return the version of torchrunx, and of torch, which starts the workers."""
        return version_of("torchrunx", "torch")

    def unavailable(self) -> str:
        """Return which of the two packages is missing."""
        return missing("torchrunx", "torch")

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return the one launcher, with its own log files in the run's directory."""
        argv = (sys.executable, "-u", "-m", "derail.agents.programs.torchrunx", str(job.scenario.ranks))
        env = {**self.fates(job), "TORCHRUNX_LOG_DIR": str(job.directory("torchrunx"))}
        return (Invocation((*argv, job.script, *job.scenario.args), env),)

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """Return the workers that a signal ended, by their pids; it reports no other."""
        del job
        ranks = {life.pid: life.rank for life in seen.lives}
        failures = {
            ranks[int(pid)]: FailureSeen(ranks[int(pid)], f"Signal {number}", status=ExitStatus(signal=int(number)))
            for number, pid in _SIGNAL.findall(outputs[0])
            if int(pid) in ranks
        }
        return Said(next(iter(failures), None), failures)
