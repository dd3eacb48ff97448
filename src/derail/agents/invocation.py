"""Start of a rank: its argv, and its environment, with torchrun's names and values."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, TypeAlias

from derail.model.input_error import nearest_file
from derail.model.std import Std

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from derail.faults.model.plan import Plan
    from derail.faults.model.triggers import Data
    from derail.model.spec import Preload, Teardown

Run: TypeAlias = Callable[..., Any] | str | Path | Sequence[str]
"""Program of a rank: a Python function, the path of a program, or an argv."""

LOGS = "logs"
"""Name of the directory of the ranks' logs in the directory of a run."""

LOOPBACK = "127.0.0.1"
SHOWN = (
    "COVERAGE_PROCESS_CONFIG", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTHONUNBUFFERED", "TMPDIR",
    "TORCHELASTIC_ERROR_FILE", "TORCHINDUCTOR_CACHE_DIR", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
)  # fmt: skip
"""Further variables with values that journals may contain: those that derail, its pytest plugin and torch set."""


@dataclass(frozen=True, slots=True)
class LocalJob:
    """Job for ``start_job``: the same program or function on each rank, all on this machine.

    Attributes:
        run: a function; a program's path (``.py`` is run by this Python); or an argv.
        ranks: the number of ranks, 1 or more.
        args: arguments of the function, or appended to the program's argv; the same for each rank.
        env: variables of the ranks that override all others.
        plan: the faults and their seed; by default none.
        teardown: how the job is ended; by default ``default_teardown()``.
        cwd: working directory of the ranks.
        start_method: how a function gets its process: "spawn", "fork", "forkserver" or "warm".
        preload: for "warm": modules that are imported once; by default the installed ones that the function's module
            imports.
        tee: streams that are also shown on the console.
        name: a short name of the job; by default taken from ``run``.
        master_addr: MASTER_ADDR of the ranks.
        master_port: MASTER_PORT of the ranks; by default a free port, another one for each attempt.
        restarts: how often all ranks are started again after a failure.
        virtual_local_rank: whether LOCAL_RANK is 0 in each rank, which sees its own device only.
        shown_ranks: the ranks of which ``tee`` shows streams; by default all.
        prefixes: what shown lines begin with, by rank; by default ``[rank0]:``.
        record: whether ranks record their collectives, so that a job that times out gets a verdict.
        steps: a regular expression of the ranks' step lines, with the number as its group; the journal then has the
            first and the last step of each process. Empty if no lines are read for that.
    """

    run: Run
    _: KW_ONLY
    ranks: int
    args: Sequence[Any] = ()
    env: Mapping[str, str] | None = None
    plan: Plan | None = None
    teardown: Teardown | None = None
    cwd: Path | None = None
    start_method: str = "spawn"
    preload: Collection[Preload] | None = None
    tee: Std | dict[int, Std] = Std.NONE
    name: str = ""
    master_addr: str = LOOPBACK
    master_port: int | None = None
    restarts: int = 0
    virtual_local_rank: bool = False
    shown_ranks: Collection[int] = ()
    prefixes: Mapping[int, str] | None = None
    record: bool = False
    steps: str = ""


def entry_point(run: Run) -> tuple[Callable[..., Any] | str, tuple[str, ...]]:
    """Split ``run`` into the entry point for ``start_processes`` and its first arguments.

    A path that ends in ``.py`` is run by this Python with ``-u``, as torchrun does. As stdout is a file, a rank's lines
    would otherwise arrive only when its buffer is full, and a SIGKILL would lose the lines in the buffer. Children of
    the rank are not affected. To avoid this, pass an argv.

    Raises:
        ValueError: if there is nothing to run.
    """
    if callable(run):
        return run, ()
    argv = [os.fspath(run)] if isinstance(run, str | Path) else [os.fspath(part) for part in run]
    if not argv or not argv[0]:
        raise ValueError("no program to run. Pass a function, a path, or an argv of at least one word")
    if isinstance(run, str | Path) and argv[0].endswith(".py"):
        argv = [sys.executable, "-u", *argv]
    return argv[0], tuple(argv[1:])


def missing_program(run: Run, cwd: Path | None = None) -> str:
    """Return why a script given by its path cannot run; empty for others, which are looked up at the start.

    For a name without a program, the script with that name and ``.py`` is suggested.
    """
    if callable(run) or not isinstance(run, str | Path):
        return ""
    path = (cwd or Path.cwd()) / run
    if os.fspath(run).endswith(".py"):
        return "" if path.is_file() else f"there is no script {path}{nearest_file(path)}"
    meant = path.with_name(f"{path.name}.py") if path.name else path
    if meant.is_file() and not path.exists() and which(os.fspath(run)) is None:
        return f"there is no program {os.fspath(run)!r} (did you mean {meant.name!r}?)"
    return ""


def rank_environment(
    rank: int,
    *,
    ranks: int,
    run_id: str,
    master_port: int,
    master_addr: str = LOOPBACK,
    attempt: int = 0,
    restarts: int = 0,
) -> dict[str, str]:
    """Return the variables that torchrun sets for a rank of a job on one node, in one of its attempts.

    All of them are set, so that no value of an outer job remains. ``TORCHELASTIC_USE_AGENT_STORE`` is false because no
    agent has a store: rank 0 has to provide it.
    """
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "ROLE_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "ROLE_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_NAME": "default",
        "MASTER_ADDR": master_addr,
        "MASTER_PORT": str(master_port),
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_RESTART_COUNT": str(attempt),
        "TORCHELASTIC_MAX_RESTARTS": str(restarts),
        "TORCHELASTIC_USE_AGENT_STORE": "False",
    }


def virtual_device(rank: int) -> dict[str, str]:
    """Return the variables by which a rank sees its own device as the only one, as torchrun's virtual local rank.

    The device is the ``rank``-th of CUDA_VISIBLE_DEVICES, or number ``rank`` where that is not set.

    Raises:
        ValueError: if CUDA_VISIBLE_DEVICES names fewer devices.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = None if visible is None else [device.strip() for device in visible.split(",")]
    if devices is not None and rank >= len(devices):
        raise ValueError(f"CUDA_VISIBLE_DEVICES={visible} has no device for rank {rank}: it names {len(devices)}")
    return {"LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": str(rank) if devices is None else devices[rank]}


def as_data(job: LocalJob, teardown: Teardown) -> dict[str, Data]:
    """Return the data that ``derail replay`` needs to start the same job again."""
    run, name = job.run, job.name or name_of(job.run)
    data: dict[str, Data] = {
        "ranks": job.ranks,
        "cwd": str(job.cwd or Path.cwd()),
        "name": name,
        "env": recorded(job.env or {}),
        "teardown": {
            "signal": int(teardown.signal),
            "grace": teardown.grace,
            "kill_wait": teardown.kill_wait,
            "sweep": teardown.sweep,
        },
        "restarts": job.restarts,
        "virtual_local_rank": job.virtual_local_rank,
    }
    if callable(run):
        return {**data, "function": f"{run.__module__}:{getattr(run, '__qualname__', name)}"}
    data["args"] = [str(arg) for arg in job.args]
    if isinstance(run, str | Path):
        return {**data, "script": os.fspath(run)}
    return {**data, "argv": [os.fspath(word) for word in run]}


def recorded(env: Mapping[str, str]) -> dict[str, Data]:
    """Return variables as in a journal: the names of all, and the values only of those that launchers set.

    Other values may be passwords, and journals are kept, sent and uploaded.
    """
    known = {*rank_environment(0, ranks=1, run_id="", master_port=0), *SHOWN}
    return {name: value if name in known else None for name, value in env.items()}


def name_of(run: Run) -> str:
    """Return a short name of what is run."""
    if callable(run):
        return getattr(run, "__name__", type(run).__name__)
    if isinstance(run, str | Path):
        return Path(run).name
    words = [os.path.basename(word) for word in run if not os.fspath(word).startswith("-")]
    return next((word for word in words[1:] if word.endswith(".py")), words[0])
