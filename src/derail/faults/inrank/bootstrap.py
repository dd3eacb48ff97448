"""Decides whether this interpreter is the one that acts for its rank, and starts the runtime in it.

A rank is one process, but it may start others, with the same environment. The one that acts is the first Python of the
rank: the rank's own process, or, if that is no Python (a shell script, say), the first Python that it starts. It claims
the rank with a line in the journal; the first such line wins. Its children find its pid in the environment and do
nothing; after an exec it is still itself and goes on.
"""

from __future__ import annotations

import os
import sys

from .rank_plan import VARIABLE, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .runtime import Runtime

OWNER = "DERAIL_INRANK_PID"
"""The environment variable that tells the children of an acting interpreter who acts."""

current: Runtime | None = None


def enter() -> Runtime | None:
    """Start the runtime if this interpreter is the one. Returns it, or None. Called again, it says the same."""
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

        meet(part)  # if it runs the worker, derail needs to know that it has no number
        return None
    if taken or part.rank is None or not (part.tasks or part.watches or part.meet):
        return None
    if part.meet and not _meet(part):
        return None
    from .runtime import Runtime  # not before: whoever has nothing to do, a child of the rank say, pays nothing for it

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
    """Introduce this process to derail, which runs beside a foreign supervisor; whether something is to act here."""
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
"""By which launchers tell a process its rank; the first that is set counts."""
RANK_VARIABLE = "DERAIL_RANK_VARIABLE"
"""The environment variable that names the one by which a launcher is declared to do it; it comes before the others."""


def _rank_of_environment() -> int | None:
    """The rank that another launcher gave to this process; None if none did."""
    for name in (os.environ.get(RANK_VARIABLE, ""), *RANK_VARIABLES):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return None
