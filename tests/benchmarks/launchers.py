"""torch, derail and the floor behind one small face, so that each measurement is written once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("floor", "derail", "torch")


class Job(Protocol):
    """Ranks that were started."""

    pids: dict[int, int]
    seen: dict[int, int]
    """When the launcher first knew of the end of a rank, in nanoseconds of the monotonic clock."""

    def wait(self, timeout: float = -1, period: float = 1) -> bool:
        """True if all ranks have ended. ``period`` is for launchers that look from time to time."""
        ...

    def close(self) -> None:
        """End them."""
        ...


class Launcher(Protocol):
    """Starts a program once for each tuple of arguments."""

    def __call__(self, program: str, args: list[tuple[str, ...]], *, directory: str, tee: bool = False) -> Job:
        """Return when all run; ``directory`` is for log files, ``tee`` shows stdout on this process's own."""
        ...


def launcher(name: str) -> Launcher:
    """The launcher of that name, imported."""
    return {"floor": _floor, "derail": _derail, "torch": _torch}[name]()


def _floor() -> Launcher:
    from benchmarks.floor import Floor

    return lambda program, args, *, directory, tee=False: Floor(program, args, tee=tee)


class _Context:
    """A job that was started by some ``start_processes``, at its default settings."""

    def __init__(self, context: Any, pids: dict[int, int], seen: dict[int, int]) -> None:
        self._context = context
        self.pids = pids
        self.seen = seen

    def wait(self, timeout: float = -1, period: float = 1) -> bool:
        return self._context.wait(timeout, period) is not None

    def close(self) -> None:
        self._context.close()


def _derail() -> Launcher:
    import derail
    from derail.model.events import Exited

    class Watch:
        wants_lines = False

        def __init__(self) -> None:
            self.seen: dict[int, int] = {}

        def attach(self, control: object) -> None:
            """Wants nothing."""

        def observe(self, event: object) -> None:
            if isinstance(event, Exited):
                self.seen[event.rank] = time.monotonic_ns()

    def start(program: str, args: list[tuple[str, ...]], *, directory: str, tee: bool = False) -> Job:
        watch = Watch()
        logs = derail.DefaultLogsSpecs(log_dir=directory, tee=derail.Std.OUT if tee else derail.Std.NONE)
        envs: dict[int, dict[str, str]] = {rank: {} for rank in range(len(args))}
        context = derail.start_processes("bench", program, dict(enumerate(args)), envs, logs, observers=[watch])
        return _Context(context, context.pids(), watch.seen)

    return start


def _torch() -> Launcher:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std, start_processes

    def start(program: str, args: list[tuple[str, ...]], *, directory: str, tee: bool = False) -> Job:
        seen: dict[int, int] = {}
        logs = DefaultLogsSpecs(log_dir=directory, tee=Std.OUT if tee else Std.NONE)
        envs: dict[int, dict[str, str]] = {rank: {} for rank in range(len(args))}
        context = start_processes("bench", program, dict(enumerate(args)), envs, logs)
        for rank, handler in context.subprocess_handlers.items():
            handler.proc.poll = _noting(handler.proc.poll, rank, seen)
        return _Context(context, context.pids(), seen)

    return start


def _noting(poll: Callable[[], int | None], rank: int, seen: dict[int, int]) -> Callable[[], int | None]:
    """``poll``, and when it first told of an exit."""

    def noting() -> int | None:
        code = poll()
        if code is not None:
            seen.setdefault(rank, time.monotonic_ns())
        return code

    return noting


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1


def threads() -> int:
    """How many this process has, the main one among them."""
    return len(os.listdir("/proc/self/task"))


def children() -> set[int]:
    """All children of all threads of this process."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            found |= {int(word) for word in file.read().split()}
    return found
