"""The specification of a job as values: its ranks, their streams, and its teardown."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Sweep: TypeAlias = Literal["group", "all"]
Preload: TypeAlias = "str | Callable[[], None]"
"""One step done once for all warm ranks: the name of a module to import, or a callable. A callable is pickled, and two
equal ones count as the same."""

StartMethod: TypeAlias = Literal["spawn", "fork", "forkserver", "warm"]

JOB_ENV = "DERAIL_JOB"
"""Environment variable that marks every process of a job, also one that has left its session; a nested job appends
its own id after a colon."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program: ``argv[0]`` is searched on the PATH of the rank's environment."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """A Python function with this rank's arguments and start method.

    Attributes:
        target: the function.
        args: its arguments.
        start_method: how its process is made.
        preload: for "warm", modules to import (names) and callables to call before the rank is forked; None for the
            imports of its module.
    """

    target: Callable[..., Any]
    args: tuple[Any, ...]
    start_method: StartMethod = "spawn"
    preload: tuple[Preload, ...] | None = None


@dataclass(frozen=True, slots=True)
class Streams:
    """Destinations of a rank's stdout and stderr: a file (appended to), or None for the launcher's own stream."""

    stdout: Path | None = None
    stderr: Path | None = None


@dataclass(frozen=True, slots=True)
class RankSpec:
    """One rank.

    Attributes:
        rank: local rank.
        run: the program or function.
        env: the *whole* environment of the process, set at exec.
        streams: where its output goes.
        error_file: where it writes its error file; None if it has none.
        cwd: its working directory; None for the launcher's.
        cpus: logical CPUs it is bound to before its first instruction; None for no binding.
    """

    rank: int
    run: Command | Function
    env: Mapping[str, str]
    streams: Streams = field(default_factory=Streams)
    error_file: Path | None = None
    cwd: Path | None = None
    cpus: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Teardown:
    """How a job is ended, on every path: one deadline for all ranks.

    Attributes:
        signal: the signal that asks ranks to end.
        grace: seconds from that signal to SIGKILL.
        kill_wait: seconds from SIGKILL until a rank that still exists is abandoned and named.
        sweep: "group" ends what is left in the process groups of the ranks and reports what escaped them;
            "all" also ends those.
        stop_others: whether the failure of a rank ends the others; without that they run to their own end.
    """

    signal: int = 15
    grace: float = 30.0
    kill_wait: float = 5.0
    sweep: Sweep = "group"
    stop_others: bool = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Teardown:
        """Return the defaults, with torch's ``TORCH_ELASTIC_SHUTDOWN_TIMEOUT`` (seconds) as grace where it is set.

        Raises:
            ValueError: if the variable is not a number of seconds that is 0 or more.
        """
        text = (os.environ if environ is None else environ).get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "").strip()
        if not text:
            return cls()
        try:
            grace = float(text)
        except ValueError:
            grace = -1.0
        if not 0 <= grace < float("inf"):
            raise ValueError(f"TORCH_ELASTIC_SHUTDOWN_TIMEOUT is {text!r}; it must be a number of seconds, 0 or more")
        return cls(grace=grace)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A whole job.

    Attributes:
        name: short name, which precedes tee'd lines.
        job_id: unique id; the mark in the environment of all its processes.
        ranks: one per local rank, 0 to n - 1.
        teardown: how it is ended.
    """

    name: str
    job_id: str
    ranks: tuple[RankSpec, ...]
    teardown: Teardown = field(default_factory=Teardown)
