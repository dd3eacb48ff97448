"""``PContext``: torch's interface to a job, on derail's supervisor."""

from __future__ import annotations

import abc
import os
import signal
from typing import TYPE_CHECKING, Any

from derail.launch.build import (
    copy_envs,
    job_spec,
    validate_full_rank,
    validate_preload,
    validate_start_method,
)
from derail.launch.guard import Guard
from derail.launch.signals import signals_to_handle
from derail.model.exit import signal_number
from derail.model.spec import Teardown
from derail.supervise.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import TypedDict, Unpack

    from derail.logs.specs import LogsDest, LogsSpecs
    from derail.model.events import Observer
    from derail.model.outcome import RunProcsResult
    from derail.model.spec import JobSpec, Preload
    from derail.platform.topology import NumaOptions

    class Additions(TypedDict, total=False):
        """Parameters of a context beyond torch's; ``PContext`` describes each."""

        teardown: Teardown | None
        observers: Sequence[Observer]
        prepare: Callable[[JobSpec], JobSpec] | None
        cwd: str | None
        forward_signals: Sequence[str]
        handle_signals: bool
        preload: Collection[Preload] | None


DEFAULT_TIMEOUT = 30
"""Default grace period of ``close`` in seconds, as in torch."""


class PContext(abc.ABC):  # noqa: B024 - torch's type; subclasses add only the kind of rank
    """A set of ranks: started together, watched together, ended together.

    The constructor only stores; ``start`` creates the log directories and the processes. Beyond torch's parameters:

    Args:
        teardown: how the job is ended when a rank fails; by default ``Teardown.from_env()``.
        observers: receivers of the job's events, see ``derail.model.events``.
        prepare: function that gets the job specification and returns the one to start.
        cwd: working directory of the ranks.
        forward_signals: names of signals to the launcher that are passed on to every rank and end nothing.
        handle_signals: whether SIGTERM and the others raise ``SignalException`` in the main thread while the job runs.
        preload: for start_method="warm": modules that are imported once, for all ranks; by default the installed ones
            that the function's module imports.
    """

    start_method: str = "spawn"

    def __init__(  # noqa: PLR0913, PLR0917 - torch's signature
        self,
        name: str,
        entrypoint: Callable[..., Any] | str,
        args: dict[int, tuple[Any, ...]],
        envs: dict[int, dict[str, str]],
        logs_specs: LogsSpecs,
        log_line_prefixes: dict[int, str] | None = None,
        duplicate_stdout_filters: list[str] | None = None,
        duplicate_stderr_filters: list[str] | None = None,
        *,
        numa_options: NumaOptions | None = None,
        teardown: Teardown | None = None,
        observers: Sequence[Observer] = (),
        prepare: Callable[[JobSpec], JobSpec] | None = None,
        cwd: str | None = None,
        forward_signals: Sequence[str] = (),
        handle_signals: bool = True,
        preload: Collection[Preload] | None = None,
    ) -> None:
        self.name = name
        self.entrypoint = entrypoint
        self.nprocs = len(args)
        validate_full_rank(args, self.nprocs, "args")
        validate_full_rank(envs, self.nprocs, "envs")
        self.args = dict(args)
        self.envs = copy_envs(envs)
        self.job_id = f"{os.getpid()}-{os.urandom(6).hex()}"
        self.teardown = Teardown.from_env() if teardown is None else teardown
        self._logs_specs = logs_specs
        self._log_line_prefixes = dict(log_line_prefixes) if log_line_prefixes else None
        self._filters = (list(duplicate_stdout_filters or ()), list(duplicate_stderr_filters or ()))
        self._numa_options = numa_options
        self._observers = tuple(observers)
        self._prepare = prepare
        self._cwd = cwd
        self._forward = tuple(signal_number(name) for name in forward_signals)
        self._handle_signals = handle_signals
        self._preload = preload
        self._logs: LogsDest | None = None
        self._supervisor: Supervisor | None = None
        self._guard: Guard | None = None

    # ---- torch's interface

    def start(self) -> None:
        """Start all ranks; they run when this returns.

        Raises:
            ValueError: if the job was started before.
            OSError: if a rank could not be started. The ranks before it have been ended; nothing is left.
            SignalException: if a signal asked the launcher to end during the start. Nothing is left then, either.
        """
        if self._supervisor is not None:
            raise ValueError(f"job {self.name!r} was started before; a context runs once, make a new one")
        supervisor = self._supervisor = self._build()
        ending = signals_to_handle() if self._handle_signals else ()
        guard = self._guard = Guard(supervisor)
        try:
            guard.set(ending=ending, forwarding=self._forward)
            supervisor.start()
        except BaseException:
            guard.is_closing = True
            supervisor.request_stop("interrupted while starting", signal=signal.SIGKILL, grace=0)
            supervisor.join()
            supervisor.done.set()
            guard.release()
            raise

    def wait(self, timeout: float = -1, period: float = 1) -> RunProcsResult | None:
        """Wait until the job is over, for at most ``timeout`` seconds; a negative one means without limit.

        The exit of a rank ends the wait at once: ``period`` is accepted as in torch and ignored. ``timeout=0`` only
        checks, and may be called any number of times. Every call after the end returns the same object.

        Returns:
            The result, or None if ranks still run when the timeout expires.

        Raises:
            SignalException: in the main thread, when a signal asks the launcher to end.
            SupervisorError: if derail itself failed; the ranks have been ended.
        """
        del period
        supervisor, guard = self._supervisor, self._guard
        if supervisor is None or guard is None:
            return None
        if timeout == 0:
            supervisor.look()
        else:
            supervisor.wait(None if timeout < 0 else timeout)
        if not supervisor.done.is_set():
            return None
        guard.release()
        return supervisor.finished_result()

    def close(self, death_sig: signal.Signals | None = None, timeout: int = DEFAULT_TIMEOUT) -> None:
        """End all ranks and wait: ``death_sig`` (SIGTERM), a grace of ``timeout`` seconds for all together, SIGKILL.

        May be called any number of times, from any thread. A signal to the launcher during the wait kills the ranks at
        once. So does an exception in the waiting thread, which is raised after the ranks have ended.
        """
        supervisor, guard = self._supervisor, self._guard
        if supervisor is None or guard is None:
            return
        guard.is_closing = True
        self.stop("closed", signal=None if death_sig is None else int(death_sig), grace=timeout)
        if supervisor.in_own_thread:
            return
        interruption: BaseException | None = None
        while not supervisor.done.is_set():
            try:
                supervisor.wait()
            except BaseException as error:
                interruption = error
                supervisor.request_stop("interrupted while closing", signal=signal.SIGKILL, grace=0)
        supervisor.join()
        guard.release()
        if interruption is not None:
            raise interruption

    def pids(self) -> dict[int, int]:
        """Return the process of each local rank that has been started."""
        return {} if self._supervisor is None else self._supervisor.ranks.pids()

    @property
    def stdouts(self) -> dict[int, str]:
        """Path of each rank's redirected stdout; empty where it goes to the console."""
        return self._reified().stdouts

    @property
    def stderrs(self) -> dict[int, str]:
        """Path of each rank's redirected stderr; empty where it goes to the console."""
        return self._reified().stderrs

    @property
    def error_files(self) -> dict[int, str]:
        """Path of each rank's error file."""
        return self._reified().error_files

    # ---- beyond torch

    def stop(
        self, reason: str, *, signal: int | None = None, grace: float | None = None, timed_out: bool = False
    ) -> None:
        """Request the end of the job without waiting for it. A further request can only bring it forward.

        Args:
            reason: for the outcome, in words.
            signal: the signal that asks ranks to end; by default the teardown's.
            grace: seconds until SIGKILL; by default the teardown's.
            timed_out: whether to note in the outcome that a deadline of the caller had passed.
        """
        if self._supervisor is not None:
            self._supervisor.timed_out |= timed_out
            self._supervisor.request_stop(reason, signal=signal, grace=grace)

    def __repr__(self) -> str:
        """Return name, size and state."""
        state = "not started" if self._supervisor is None else "over" if self._supervisor.done.is_set() else "running"
        return f"<{type(self).__name__} {self.name!r}: {self.nprocs} rank(s), {state}>"

    def _reified(self) -> LogsDest:
        if self._logs is None:
            self._logs = self._logs_specs.reify(self.envs)
        return self._logs

    def _build(self) -> Supervisor:
        from derail.errors.protocol import identify_content
        from derail.launch import orphans
        from derail.supervise.log_readers import readers_for

        logs = self._reified()
        spec = job_spec(
            self.name,
            self.entrypoint,
            job_id=self.job_id,
            args=self.args,
            envs=self.envs,
            logs=logs,
            start_method=validate_start_method(self.start_method),
            preload=validate_preload(self._preload, self.start_method),
            numa_options=self._numa_options,
            teardown=self.teardown,
            cwd=self._cwd,
        )
        if self._prepare is not None:
            spec = self._prepare(spec)
        stale = {rank.rank: identify_content(rank.error_file) for rank in spec.ranks if rank.error_file is not None}
        return Supervisor(
            spec,
            observers=(*self._observers, *orphans.observers()),
            readers=readers_for(spec, logs, prefixes=self._log_line_prefixes, filters=self._filters),
            stale={rank: identity for rank, identity in stale.items() if identity is not None},
        )


class MultiprocessContext(PContext):
    """A job with ranks that run a Python function."""

    def __init__(  # noqa: PLR0917 - torch's signature
        self,
        name: str,
        entrypoint: Callable[..., Any],
        args: dict[int, tuple[Any, ...]],
        envs: dict[int, dict[str, str]],
        start_method: str,
        logs_specs: LogsSpecs,
        log_line_prefixes: dict[int, str] | None = None,
        numa_options: NumaOptions | None = None,
        duplicate_stdout_filters: list[str] | None = None,
        duplicate_stderr_filters: list[str] | None = None,
        **additions: Unpack[Additions],
    ) -> None:
        super().__init__(
            name,
            entrypoint,
            args,
            envs,
            logs_specs,
            log_line_prefixes,
            duplicate_stdout_filters,
            duplicate_stderr_filters,
            numa_options=numa_options,
            **additions,
        )
        self.start_method = validate_start_method(start_method)


class SubprocessContext(PContext):
    """A job with ranks that run a program."""

    def __init__(  # noqa: PLR0917 - torch's signature
        self,
        name: str,
        entrypoint: str,
        args: dict[int, tuple[Any, ...]],
        envs: dict[int, dict[str, str]],
        logs_specs: LogsSpecs,
        log_line_prefixes: dict[int, str] | None = None,
        numa_options: NumaOptions | None = None,
        duplicate_stdout_filters: list[str] | None = None,
        duplicate_stderr_filters: list[str] | None = None,
        **additions: Unpack[Additions],
    ) -> None:
        super().__init__(
            name,
            entrypoint,
            args,
            envs,
            logs_specs,
            log_line_prefixes,
            duplicate_stdout_filters,
            duplicate_stderr_filters,
            numa_options=numa_options,
            **additions,
        )

    @property
    def subprocess_handlers(self) -> Mapping[int, Any]:
        """Handle of each started rank, by local rank; each has ``proc`` (a ``subprocess.Popen``) and ``pid``."""
        return {} if self._supervisor is None else dict(self._supervisor.ranks.handles)
