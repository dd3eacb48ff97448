"""Adapter for mpirun, Open MPI's launcher, for ranks without MPI; a shell sets the variables that torch needs."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from derail.agents.availability import no_error_files
from derail.agents.external.agent import ExternalAgent, Job, Said
from derail.agents.external.messages import Invocation
from derail.model.exit import ExitStatus
from derail.platform.bounded import run_bounded
from derail.scenario.model import ALL_PROMISES, FailureSeen

if TYPE_CHECKING:
    from derail.agents.external.messages import Seen
    from derail.scenario.model import Promise, Scenario

_NAMES = {
    "RANK": "OMPI_COMM_WORLD_RANK",
    "LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
    "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
    "LOCAL_WORLD_SIZE": "OMPI_COMM_WORLD_LOCAL_SIZE",
}
_SHELL = " ".join(f'export {name}="${theirs}";' for name, theirs in _NAMES.items()) + ' exec "$0" "$@"'
_CODE = re.compile(r"Process name: \[\[\d+,\d+\],(\d+)\]\s+Exit code:\s+(\d+)")
_SIGNAL = re.compile(r"process rank (\d+) with PID \d+ on node \S+ exited on signal (\d+)")


class Mpirun(ExternalAgent):
    """External agent ``mpirun`` of Open MPI. It has no error files and messages, and starts a job once."""

    name = "mpirun"
    promises: frozenset[Promise] = ALL_PROMISES - {
        *("error_file", "message", "log_tail", "restarts", "resumed_at"),
        *(
            "teardown_seconds",
            "ends_with_launcher",
        ),  # it has no grace period, and documents only the forwarding of signals
    }

    def version(self) -> str:
        """Return the version that it prints."""
        if self.unavailable():
            return ""
        text = run_bounded(["mpirun", "--version"], 30).stdout.decode(errors="replace")
        found = re.search(r"\(Open MPI\) (\S+)", text)
        return f"Open MPI {found[1]}" if found else ""

    def unavailable(self) -> str:
        """Return why there is no ``mpirun`` of Open MPI on the path."""
        found = shutil.which("mpirun")
        if found is None:
            return "mpirun is not installed here"
        ours = shutil.which("ompi_info") or "openmpi" in os.path.realpath(found) or "orte" in os.path.realpath(found)
        return "" if ours else "the installed mpirun is not Open MPI's"

    def invocations(self, job: Job) -> tuple[Invocation, ...]:
        """Return the command line on this machine, for any number of ranks; root is allowed, as this is a test.

        Its ``odls_base_sigkill_timeout`` stays at one second, whatever the grace period of the scenario: it always
        waits that time before SIGTERM, and again before SIGKILL, even where all ranks would end at once.
        """
        root = ("--allow-run-as-root",) if os.geteuid() == 0 else ()
        argv = (
            *("mpirun", *root, "--oversubscribe", "--bind-to", "none"),
            *("-x", "MASTER_ADDR=127.0.0.1", "-x", f"MASTER_PORT={job.port}"),
            *("-n", str(job.scenario.ranks), "sh", "-c", _SHELL, *job.rank_argv),
        )
        return (Invocation(argv),)

    def unsupported(self, scenario: Scenario) -> str:
        """Return why it cannot run the scenario: as any external agent, or for lack of error files."""
        return super().unsupported(scenario) or no_error_files(scenario)

    def said(self, job: Job, outputs: tuple[str, ...], seen: Seen) -> Said:
        """Return the process that ended badly first; it names no other."""
        del job, seen
        return read_report(outputs[0])


def read_report(output: str) -> Said:
    """Return the rank in its report, with its exit code or signal."""
    code, killed = _CODE.search(output), _SIGNAL.search(output)
    if killed is not None:
        rank, status = int(killed[1]), ExitStatus(signal=int(killed[2]))
    elif code is not None:
        rank, status = int(code[1]), ExitStatus(code=int(code[2]))
    else:
        return Said()
    return Said(rank, {rank: FailureSeen(rank, "", status=status)})
