"""Launchers that a rehearsal can drive: derail's own, and any that has the face of torch's ``start_processes``."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from derail.conformance.adapter import LEAST, Promises, Told
from derail.conformance.scripted_ranks import obey
from derail.model.exit import ExitStatus
from derail.model.spec import Teardown
from derail.model.std import Std

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.conformance.scripted_ranks import Crew
    from derail.launch.context import PContext
    from derail.model.events import Event, JobControl

HELD_AT_MOST = 120.0
"""Seconds after which a launcher that is held goes on by itself."""
_KEPT = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")


class _InProcess:
    """A launcher that is called in this process, and starts the ranks as its children."""

    def __init__(self) -> None:
        self._crew: Crew | None = None

    def restart(self, crew: Crew) -> None:
        """Start a job like the one before."""
        self.close()
        self.start(crew)

    def start(self, crew: Crew) -> None:
        """Start a job."""
        self._crew = crew

    def close(self) -> None:
        """Nothing is held."""

    def fail(self, rank: int, code: int) -> None:
        """Order the rank to exit."""
        assert self._crew is not None
        self._crew.leave(rank, code)

    def signal(self, rank: int, number: int) -> None:
        """Signal the rank's process."""
        assert self._crew is not None
        self._crew.signal(rank, number)


class DerailLauncher(_InProcess):
    """derail's own launcher.

    It is held by an action in the job's thread: what happens meanwhile is seen when it is released, all at once.

    Args:
        start_method: None for ranks that are programs; else they are functions, whose processes are made in this way.
        grace: seconds between SIGTERM and SIGKILL; short, since some ranks do not hear SIGTERM.
    """

    def __init__(self, *, start_method: str | None = None, grace: float = 0.1) -> None:
        super().__init__()
        self.promises = Promises(zero=start_method is None)
        self._start_method = start_method
        self._grace = grace
        self._context: PContext | None = None
        self._brake = _Brake()

    def start(self, crew: Crew) -> None:
        """Start a job, all of whose helpers are ended with it."""
        from derail import DefaultLogsSpecs, start_processes

        super().start(crew)
        self._brake = _Brake()
        entry: str | Callable[..., None]
        entry, args = _call_of(crew)
        if self._start_method is not None:
            entry, args = obey, {rank: crew.call(rank) for rank in range(crew.ranks)}
        self._context = start_processes(
            "crew",
            entry,
            args,
            {rank: crew.env(rank) for rank in range(crew.ranks)},
            DefaultLogsSpecs(str(crew.directory / "logs"), redirects=Std.ALL),
            start_method=self._start_method or "spawn",
            teardown=Teardown(grace=self._grace, kill_wait=10.0, sweep="all"),
            observers=(self._brake,),
            handle_signals=False,
        )

    def hold(self) -> bool:
        """Stop the job's thread."""
        return self._brake.pull()

    def release(self) -> None:
        """Let it run."""
        self._brake.let_go()

    def stop(self) -> None:
        """``close`` the job; a launcher that is held finds the request before it has seen any end."""
        assert self._context is not None
        self._context.stop("closed")
        self.release()
        self._context.close()

    def wait(self, timeout: float) -> Told | None:
        """Its result, with what only derail tells."""
        assert self._context is not None
        result = self._context.wait(timeout)
        if result is None:
            return None
        return Told(
            failed={rank: failure.status for rank, failure in result.failures.items()},
            root_cause=result.root_cause,
            stopped={rank: result.exits[rank] for rank in result.stopped},
        )

    def close(self) -> None:
        """End the job."""
        self.release()
        if self._context is not None:
            self._context.close()


class _Brake:
    """Holds a job of derail: an action of its own thread that does not return until it is let go."""

    wants_lines = False

    def __init__(self) -> None:
        self._control: JobControl | None = None
        self._go: threading.Event | None = None

    def attach(self, control: JobControl) -> None:
        """The job begins."""
        self._control = control

    def observe(self, event: Event) -> None:
        """What happens is none of its business."""

    def pull(self) -> bool:
        if self._control is None:
            return False
        parked, go = threading.Event(), threading.Event()

        def park() -> None:
            parked.set()
            go.wait(HELD_AT_MOST)

        self._control.post(park)
        self._go = go
        return parked.wait(HELD_AT_MOST)

    def let_go(self) -> None:
        if self._go is not None:
            self._go.set()


class StartProcesses(_InProcess):
    """Any launcher with the face of torch's ``start_processes``.

    Args:
        start_processes: called as torch's is; returns an object with ``wait(timeout)`` and ``close()``. What ``wait``
            returns has ``failures``, by local rank, each with an ``exitcode``.
        promises: what it is held to.
        asleep: whether it does nothing between two calls of ``wait``, as torch's: it is held then by not being called.
        logs_specs: makes what it takes as ``logs_specs`` from a directory; derail's ``DefaultLogsSpecs`` by default.
        options: more arguments for it.
    """

    def __init__(
        self,
        start_processes: Callable[..., Any],
        *,
        promises: Promises = LEAST,
        asleep: bool = False,
        logs_specs: Callable[[str], object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.promises = promises
        self._start_processes = start_processes
        self._asleep = asleep
        self._logs_specs = logs_specs
        self._options = options
        self._context: Any = None
        self._stopped = False
        self._handlers: dict[int, Any] = {}

    def start(self, crew: Crew) -> None:
        """Start a job of programs. Signal handlers that the launcher sets are put back with ``close``."""
        from derail import DefaultLogsSpecs

        super().start(crew)
        self._stopped = False
        logs = crew.directory / "logs"
        logs.mkdir()
        entry, args = _call_of(crew)
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.getsignal(number) for number in map(signal.Signals.__getitem__, _KEPT)}
        self._context = self._start_processes(
            name="crew",
            entrypoint=entry,
            args=args,
            envs={rank: crew.env(rank) for rank in range(crew.ranks)},
            logs_specs=(self._logs_specs or DefaultLogsSpecs)(str(logs)),
            **self._options,
        )

    def hold(self) -> bool:
        """It is, if it only acts when it is called."""
        return self._asleep

    def release(self) -> None:
        """There is nothing to do."""

    def stop(self) -> None:
        """``close`` the job; what a launcher says after that is asked for only where it has promised something."""
        self._stopped = True
        self._context.close()

    def wait(self, timeout: float) -> Told | None:
        """Its result. The root cause is what the result itself calls so, else the failure with the first timestamp."""
        if self._stopped and not self.promises.after_stop:
            return Told()
        result = self._context.wait(timeout)
        if result is None:
            return None
        failures = result.failures
        first = min(failures, key=lambda rank: getattr(failures[rank], "timestamp", 0), default=None)
        stopped, exits = getattr(result, "stopped", None), getattr(result, "exits", {})
        return Told(
            failed={rank: ExitStatus.from_returncode(failure.exitcode) for rank, failure in failures.items()},
            root_cause=getattr(result, "root_cause", first),
            stopped=None if stopped is None else {rank: exits.get(rank) for rank in stopped},
        )

    def close(self) -> None:
        """End the job, and put back the handlers that were there before."""
        if self._context is not None:
            self._context.close()
        for number, handler in self._handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        self._handlers = {}


def torch_launcher() -> StartProcesses:
    """The launcher of torch: its own ``start_processes``, held to what it promises. torch is imported only here."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    return StartProcesses(start_processes, asleep=True, logs_specs=DefaultLogsSpecs)


def _call_of(crew: Crew) -> tuple[str, dict[int, tuple[Any, ...]]]:
    """Entry point and arguments, as ``start_processes`` takes them."""
    return crew.argv(0)[0], {rank: crew.argv(rank)[1:] for rank in range(crew.ranks)}
