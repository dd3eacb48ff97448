"""Launchers that a rehearsal can drive: derail's own, and any with the interface of torch's ``start_processes``."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from derail.conformance.adapter import LEAST, LauncherReport, Promises
from derail.conformance.scripted_ranks import obey
from derail.model.exit import ExitStatus
from derail.model.spec import Teardown
from derail.model.std import Std

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.conformance.scripted_ranks import ScriptedRanks
    from derail.launch.context import PContext
    from derail.model.events import Event, JobControl

HELD_AT_MOST = 120.0
"""Seconds after which a held launcher continues without a release."""
_KEPT = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")  # signals with handlers that are restored


class _InProcess:
    """Launcher that is called in this process, and starts the ranks as its children."""

    def __init__(self) -> None:
        self._scripted: ScriptedRanks | None = None

    def restart(self, scripted: ScriptedRanks) -> None:
        """Start a job like the previous one."""
        self.close()
        self.start(scripted)

    def start(self, scripted: ScriptedRanks) -> None:
        """Start a job."""
        self._scripted = scripted

    def close(self) -> None:
        """Do nothing: there are no resources to release."""

    def fail(self, rank: int, code: int) -> None:
        """Order the rank to exit."""
        assert self._scripted is not None
        self._scripted.leave(rank, code)

    def signal(self, rank: int, number: int) -> None:
        """Signal the rank's process."""
        assert self._scripted is not None
        self._scripted.signal(rank, number)


class DerailLauncher(_InProcess):
    """derail's own launcher.

    It is held by an action in the job's thread: the launcher processes all events of that time when it is released.

    Args:
        start_method: None for ranks that are programs; else they are functions in processes created by this method.
        grace: seconds between SIGTERM and SIGKILL; short, because some ranks ignore SIGTERM.
    """

    def __init__(self, *, start_method: str | None = None, grace: float = 0.1) -> None:
        super().__init__()
        self.promises = Promises(zero=start_method is None)
        self._start_method = start_method
        self._grace = grace
        self._context: PContext | None = None
        self._brake = _Brake()

    def start(self, scripted: ScriptedRanks) -> None:
        """Start a job; its helpers end with it."""
        from derail import DefaultLogsSpecs, start_processes

        super().start(scripted)
        self._brake = _Brake()
        entry: str | Callable[..., None]
        entry, args = _call_of(scripted)
        if self._start_method is not None:
            entry, args = obey, {rank: scripted.call(rank) for rank in range(scripted.ranks)}
        self._context = start_processes(
            "scripted",
            entry,
            args,
            {rank: scripted.env(rank) for rank in range(scripted.ranks)},
            DefaultLogsSpecs(str(scripted.directory / "logs"), redirects=Std.ALL),
            start_method=self._start_method or "spawn",
            teardown=Teardown(grace=self._grace, kill_wait=10.0, sweep="all"),
            observers=(self._brake,),
            handle_signals=False,
        )

    def hold(self) -> bool:
        """Stop the job's thread."""
        return self._brake.pull()

    def release(self) -> None:
        """Let the job's thread continue."""
        self._brake.let_go()

    def stop(self) -> None:
        """``close`` the job; a held launcher processes the request before any exit."""
        assert self._context is not None
        self._context.stop("closed")
        self.release()
        self._context.close()

    def wait(self, timeout: float) -> LauncherReport | None:
        """Return the report, including the stopped ranks, which only derail reports."""
        assert self._context is not None
        result = self._context.wait(timeout)
        if result is None:
            return None
        return LauncherReport(
            failed={rank: failure.status for rank, failure in result.failures.items()},
            root_cause=result.root_cause,
            stopped={rank: result.exits[rank] for rank in result.stopped},
            rivals=result.root_cause_rivals,
        )

    def close(self) -> None:
        """End the job."""
        self.release()
        if self._context is not None:
            self._context.close()


class _Brake:
    """Observer that holds a job of derail: an action in the job's thread that blocks until it is released."""

    wants_lines = False

    def __init__(self) -> None:
        self._control: JobControl | None = None
        self._go: threading.Event | None = None

    def attach(self, control: JobControl) -> None:
        """Keep the control of the job when it begins."""
        self._control = control

    def observe(self, event: Event) -> None:
        """Ignore the event."""

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
    """Any launcher with the interface of torch's ``start_processes``.

    Args:
        start_processes: called as torch's is; returns an object with ``wait(timeout)`` and ``close()``. The result of
            ``wait`` has ``failures``, by local rank, each with an ``exitcode``.
        promises: the promises that it is checked against.
        asleep: whether it is inactive between two calls of ``wait``, as torch's: then not calling it holds it.
        logs_specs: creates the ``logs_specs`` argument from a directory; derail's ``DefaultLogsSpecs`` by default.
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

    def start(self, scripted: ScriptedRanks) -> None:
        """Start a job of programs; ``close`` restores the signal handlers that the launcher replaces."""
        from derail import DefaultLogsSpecs

        super().start(scripted)
        self._stopped = False
        logs = scripted.directory / "logs"
        logs.mkdir()
        entry, args = _call_of(scripted)
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.getsignal(number) for number in map(signal.Signals.__getitem__, _KEPT)}
        self._context = self._start_processes(
            name="scripted",
            entrypoint=entry,
            args=args,
            envs={rank: scripted.env(rank) for rank in range(scripted.ranks)},
            logs_specs=(self._logs_specs or DefaultLogsSpecs)(str(logs)),
            **self._options,
        )

    def hold(self) -> bool:
        """Return whether it is held without being called."""
        return self._asleep

    def release(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """``close`` the job; the report after that is checked only if the launcher promises one."""
        self._stopped = True
        self._context.close()

    def wait(self, timeout: float) -> LauncherReport | None:
        """Return the report.

        The root cause is the result's own ``root_cause``, else the failure with the first timestamp.
        """
        if self._stopped and not self.promises.after_stop:
            return LauncherReport()
        result = self._context.wait(timeout)
        if result is None:
            return None
        failures = result.failures
        first = min(failures, key=lambda rank: getattr(failures[rank], "timestamp", 0), default=None)
        stopped, exits = getattr(result, "stopped", None), getattr(result, "exits", {})
        return LauncherReport(
            failed={rank: ExitStatus.from_returncode(failure.exitcode) for rank, failure in failures.items()},
            root_cause=getattr(result, "root_cause", first),
            stopped=None if stopped is None else {rank: exits.get(rank) for rank in stopped},
        )

    def close(self) -> None:
        """End the job, and restore the earlier signal handlers."""
        if self._context is not None:
            self._context.close()
        for number, handler in self._handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        self._handlers = {}


def torch_launcher() -> StartProcesses:
    """Return torch's launcher, checked against the minimum; torch is imported only here."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    return StartProcesses(start_processes, asleep=True, logs_specs=DefaultLogsSpecs)


def _call_of(scripted: ScriptedRanks) -> tuple[str, dict[int, tuple[Any, ...]]]:
    """Return entry point and arguments in the form of ``start_processes``."""
    return scripted.argv(0)[0], {rank: scripted.argv(rank)[1:] for rank in range(scripted.ranks)}
