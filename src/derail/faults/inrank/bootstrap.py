"""Start of the runtime, and of the recorder, in the one interpreter that acts for its rank.

A rank is one process, but it may start others with the same environment. The acting process is the first Python of the
rank: the rank's own process, or, if that is not Python (a shell script, for example), the first Python that it starts.
It claims the rank with a line in the journal; the first such line wins. Its children find its pid in the environment
and do nothing. After an exec the process has the same pid and continues to act.
"""

from __future__ import annotations

import os
import sys

from .rank_plan import RECORDER, VARIABLE, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .recorder import Recorder
    from .runtime import Runtime

OWNER = "DERAIL_INRANK_PID"
"""Environment variable with the pid of the acting interpreter, for its children."""

current: Runtime | None = None


def enter() -> Runtime | None:
    """Start the runtime if this interpreter acts for its rank, and return it, or None; repeated calls agree."""
    global current  # noqa: PLW0603 - one interpreter, one runtime
    _record()  # first: the watchpoints of faults are then removed before the recorder's
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


def _record() -> None:
    """Record the collectives of this process if it is a rank, and the environment names a directory for that."""
    directory, rank = os.environ.get(RECORDER), _rank_of_environment()
    if directory and rank is not None:
        record_collectives(directory, rank)


def record_collectives(directory: str, rank: int) -> None:
    """Record the collectives of this process from now on, in a ring file in a directory. Idempotent."""
    from . import recorder

    if recorder.active is None:
        from .hooks import mpi_collectives, torch_collectives
        from .hooks.imports import when_imported

        attempt = _number("TORCHELASTIC_RESTART_COUNT")
        recorder.activate(recorder.Recorder(directory, rank, world=_number(*SIZE_VARIABLES), attempt=attempt))
        _answer_with_stacks()
        when_imported("torch.distributed.distributed_c10d", _safely(torch_collectives.record_torch))
        when_imported("torch.distributed._functional_collectives", _safely(torch_collectives.record_functional))
        when_imported("torch.nn.parallel.distributed", _safely(torch_collectives.record_ddp))
        when_imported("mpi4py.MPI", _safely(mpi_collectives.record_mpi))


def _answer_with_stacks() -> None:
    """Have the Python stacks of all threads written to stderr on the signal by which derail requests them.

    A handler of the program stays. A function that derail runs has one already (``derail.errors.recorder``).
    """
    import _signal  # type: ignore[import-not-found]
    import faulthandler

    number = getattr(_signal, "SIGRTMAX", 0) - 1
    try:
        if number > 0 and _signal.getsignal(number) == _signal.SIG_DFL:
            faulthandler.register(number, file=2, all_threads=True, chain=False)
    except (OSError, RuntimeError, ValueError):
        pass  # no stderr: its stacks are missing in a report


def _safely(begin: Callable[[Recorder, object], None]) -> Callable[[object], None]:
    """Return an action for an imported library whose failure is reported, and does not reach the program."""
    from . import recorder

    def act(module: object) -> None:
        active = recorder.active
        if active is not None and not active.is_over:
            try:
                active.open()
                begin(active, module)
            except Exception as error:
                sys.stderr.write(f"derail: collectives are not recorded: {type(error).__name__}: {error}\n")

    return act


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


SIZE_VARIABLES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
"""Variables in which launchers pass a process the number of ranks; the first that is set counts."""


def _number(*names: str) -> int:
    """Return the number in the first of these variables that has one; 0 if none has."""
    return next((int(text) for name in names if (text := os.environ.get(name, "")).isdigit()), 0)


def _rank_of_environment() -> int | None:
    """Return the rank that a launcher gave to this process; None if none did."""
    for name in (os.environ.get(RANK_VARIABLE, ""), *RANK_VARIABLES):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return None
