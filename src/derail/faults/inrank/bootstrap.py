"""Start of the runtime in the one interpreter that acts for its rank.

A rank is one process, but it may start others with the same environment. The acting process is the first Python of the
rank: the rank's own process, or, if that is not Python (a shell script, for example), the first Python that it starts.
It claims the rank with a line in the journal; the first such line wins. Its children find its pid in the environment
and do nothing. After an exec the process has the same pid and continues to act.
"""

from __future__ import annotations

import os
import sys

from .rank_plan import VARIABLE, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .runtime import Runtime

OWNER = "DERAIL_INRANK_PID"
"""Environment variable with the pid of the acting interpreter, for its children."""

current: Runtime | None = None


def enter() -> Runtime | None:
    """Start the runtime if this interpreter acts for its rank, and return it, or None; repeated calls agree."""
    global current  # noqa: PLW0603 - one interpreter, one runtime
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if current is not None and current.pid == os.getpid() and current.part.text == text:
        return current
    current = None
    part = Part(text, _rank_of_environment())
    job, _, pid = os.environ.get(OWNER, "").rpartition(":")
    taken = job == part.job and pid != str(os.getpid())
    if part.meet and part.rank is None and not taken:
        from .handshake import meet

        meet(part)  # derail needs to know if a process without a rank number runs the rank
        return None
    if taken or part.rank is None or not (part.tasks or part.watches or part.meet):
        return None
    if part.meet and not _meet(part):
        return None
    from .runtime import Runtime  # late: a process without work, such as a child of the rank, must not pay for it

    runtime = Runtime(part)
    if runtime.claim():
        os.environ[OWNER] = f"{part.job}:{os.getpid()}"
        current = runtime
        runtime.arm()
        for name in (f"{__package__}.fail_point", "derail.faults.inrank.fail_point"):
            if name in sys.modules:
                sys.modules[name].adopt(runtime.points)
    return current


def _meet(part: Part) -> bool:
    """Do the handshake with derail beside an external agent, and return whether a fault or watch is active here."""
    from .handshake import follow, meet

    answer = meet(part)
    if answer is None:
        return bool(part.tasks or part.watches)
    if not answer.get("acts"):
        return False
    follow(answer)
    os.environ[OWNER] = f"{part.job}:{os.getpid()}"
    part.attempt = str(answer.get("attempt", part.attempt))
    return bool(part.tasks or part.watches)


RANK_VARIABLES = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "LOCAL_RANK")
"""Variables in which launchers pass a process its rank; the first that is set counts."""
RANK_VARIABLE = "DERAIL_RANK_VARIABLE"
"""Environment variable that names the variable in which a declared launcher passes the rank; it takes precedence."""


def _rank_of_environment() -> int | None:
    """Return the rank that a launcher gave to this process; None if none did."""
    for name in (os.environ.get(RANK_VARIABLE, ""), *RANK_VARIABLES):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return None
