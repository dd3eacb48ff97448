"""The attempts of one job: after a failure all ranks are restarted, up to a limit.

As with torchrun, a restart concerns all ranks: the remaining ones are ended first, and an attempt begins when the
previous one is over. A job that was asked to end is not restarted.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from derail.launch.signals import REGISTRY
from derail.model.clock import SYSTEM_CLOCK
from derail.model.events import Finished, Restarted
from derail.supervise.observers import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from derail.launch.context import PContext
    from derail.model.events import Event, JobControl, Observer, Stream
    from derail.model.outcome import RunProcsResult
    from derail.model.spec import Teardown


class Attempts:
    """A job of several attempts, with the interface of ``PContext`` for callers of a running job.

    Its observers get one job: they are attached once, get ``Restarted`` between the attempts, and ``Finished`` once.

    Args:
        start: starts one attempt, given its number from 0 and its observers.
        restarts: maximum number of restarts of all ranks.
        observers: receivers of each event of all attempts.
        ending: signals that raise ``SignalException`` in the main thread, also between two attempts.
        forwarding: signals that are passed on to ranks, and that must not end this process between two attempts.
    """

    def __init__(
        self,
        start: Callable[[int, Sequence[Observer]], PContext],
        *,
        restarts: int,
        observers: Sequence[Observer] = (),
        ending: Sequence[int] = (),
        forwarding: Sequence[int] = (),
    ) -> None:
        self.is_closing = False
        """Whether the job was asked to end: it is not restarted."""
        self._start = start
        self._restarts = restarts
        self._signals = (tuple(ending), tuple(forwarding))
        self._relay = _Relay(observers, self._may_restart)
        self._changed = threading.RLock()
        self._number = 0
        self._over = False
        self._context: PContext | None = None

    def start(self) -> None:
        """Start the first attempt.

        Raises:
            OSError: if a rank could not be started; nothing is left.
            SignalException: if a signal asked the launcher to end during the start; nothing is left.
        """
        ending, forwarding = self._signals
        REGISTRY.add(self, ending=ending, forwarding=forwarding)
        try:
            self._context = self._start(0, (self._relay,))
        except BaseException:
            self._finish()
            raise

    def wait(self, timeout: float = -1) -> RunProcsResult | None:
        """Wait until the last attempt is over, for at most ``timeout`` seconds; a negative one means without limit.

        Returns:
            The result of the last attempt; None if ranks still run when the timeout expires.

        Raises:
            SignalException: in the main thread, when a signal asks the launcher to end.
            OSError: if an attempt could not be started; nothing is left.
        """
        end = SYSTEM_CLOCK.now() + timeout
        while True:
            context = self._running
            result = context.wait(timeout if timeout <= 0 else max(0.0, end - SYSTEM_CLOCK.now()))
            if result is None:
                return None
            with self._changed:
                if context is not self._context:
                    continue  # another thread has started the next attempt
                if self._relay.finished is None or self.is_closing:
                    self._finish()
                    return result
                self._restart()

    def close(self, death_sig: int | None = None, timeout: float = 30) -> None:
        """End all ranks and wait for their exits, as ``PContext.close`` does; the job is not restarted."""
        self.is_closing = True
        with self._changed:
            context = self._context
        try:
            if context is not None:
                context.close(death_sig, timeout)  # type: ignore[arg-type] # torch's types; it takes any number
        finally:
            self._finish()

    def stop(self, reason: str, *, grace: float | None = None, timed_out: bool = False) -> None:
        """Request the end of the job without waiting for it; the job is not restarted."""
        self.is_closing = True
        with self._changed:
            self._running.stop(reason, grace=grace, timed_out=timed_out)

    def pids(self) -> dict[int, int]:
        """Return the process of each rank of this attempt."""
        return self._running.pids()

    @property
    def stdouts(self) -> dict[int, str]:
        """Path of each rank's stdout in this attempt."""
        return self._running.stdouts

    @property
    def stderrs(self) -> dict[int, str]:
        """Path of each rank's stderr in this attempt."""
        return self._running.stderrs

    @property
    def teardown(self) -> Teardown:
        """The teardown of the ranks."""
        return self._running.teardown

    # ---- signals between two attempts

    @property
    def is_over(self) -> bool:
        """Whether the last attempt is over, and no other one follows."""
        return self._over

    def was_asked(self) -> None:
        """Note that the first signal is about to be raised: no attempt follows this one."""
        self.is_closing = True

    def escalate(self, number: int) -> None:
        """Leave a further signal to the running attempt."""

    def forward(self, number: int) -> None:
        """Leave a signal for the ranks to the running attempt; between two attempts there are no ranks."""

    @property
    def _running(self) -> PContext:
        assert self._context is not None, "a job of several attempts is started before it is used"
        return self._context

    def _may_restart(self) -> bool:
        return not self.is_closing and self._number < self._restarts

    def _restart(self) -> None:
        self._number += 1
        self._relay.restart(self._number, self._restarts)
        try:
            self._context = self._start(self._number, (self._relay,))
        except BaseException:
            self._finish()
            raise

    def _finish(self) -> None:
        self._over = True
        REGISTRY.remove(self)
        self._relay.finish()


class _Relay:
    """The only observer of each attempt, which passes events on to the observers of the job.

    Attributes:
        finished: the end of an attempt that may not be the last one, until that is decided.
    """

    def __init__(self, observers: Sequence[Observer], may_restart: Callable[[], bool]) -> None:
        self.wants_lines = any(observer.wants_lines for observer in observers)
        self.finished: Finished | None = None
        self._observers = list(observers)
        self._may_restart = may_restart
        self._control = _Control()
        self._restarted: Restarted | None = None

    def attach(self, control: JobControl) -> None:
        """Attach the observers to the first attempt; report each later one to them."""
        first = self._control.follow(control)
        if first:
            self._observers = [each for each in self._observers if guarded(each.attach, self._control)]
        if self._restarted is not None:
            self.finished = None
            self._pass_on(self._restarted)

    def observe(self, event: Event) -> None:
        """Pass an event on; hold back the end of an attempt that another one may follow."""
        if isinstance(event, Finished) and event.outcome.failed and self._may_restart():
            self.finished = event
        else:
            self._pass_on(event)

    def restart(self, number: int, restarts: int) -> None:
        """Announce another attempt; when it begins, the end of the previous one is dropped."""
        self._restarted = Restarted(number, restarts, SYSTEM_CLOCK.now())

    def finish(self) -> None:
        """Pass the held-back end on: it was the last one."""
        finished, self.finished = self.finished, None
        if finished is not None:
            self._pass_on(finished)

    def _pass_on(self, event: Event) -> None:
        self._observers = [each for each in self._observers if guarded(each.observe, event)]


class _Control:
    """``JobControl`` over the running attempt. Delayed actions also run if an attempt ends before their time."""

    def __init__(self) -> None:
        self._current: JobControl | None = None
        self._later: list[_Later] = []

    def follow(self, control: JobControl) -> bool:
        """Switch to the next attempt, in its thread; return whether it is the first."""
        first, self._current = self._current is None, control
        for later in self._later:
            later.schedule(control)
        return first

    @property
    def ranks(self) -> tuple[int, ...]:
        """The local ranks of the job."""
        return self._control.ranks

    def pid(self, rank: int) -> int | None:
        """Return the process of ``rank`` in this attempt, or None before its start."""
        return self._control.pid(rank)

    def pidfd(self, rank: int) -> int | None:
        """Return the pidfd of ``rank``."""
        return self._control.pidfd(rank)

    def is_alive(self, rank: int) -> bool:
        """Return whether ``rank`` was started in this attempt and has not ended."""
        return self._control.is_alive(rank)

    def send_signal(self, rank: int, signal: int, *, group: bool = False) -> bool:
        """Signal a rank or its group; return False if it had ended."""
        return self._control.send_signal(rank, signal, group=group)

    def error_file(self, rank: int) -> Path | None:
        """Return the path of the error file of ``rank`` in this attempt."""
        return self._control.error_file(rank)

    def log_file(self, rank: int, stream: Stream) -> Path | None:
        """Return the file to which a stream of ``rank`` is redirected in this attempt."""
        return self._control.log_file(rank, stream)

    def call_later(self, delay: float, action: Callable[[], None]) -> Callable[[], None]:
        """Run ``action`` in the job's thread after ``delay`` seconds, in any attempt."""
        later = _Later(SYSTEM_CLOCK.now() + delay, action, self._later)
        later.schedule(self._control)
        return later.cancel

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the job's thread soon; from any thread."""
        self._control.post(action)

    @property
    def _control(self) -> JobControl:
        assert self._current is not None, "observers are attached to an attempt before they act"
        return self._current


class _Later:
    """An action at a time."""

    def __init__(self, at: float, action: Callable[[], None], pending: list[_Later]) -> None:
        self._at = at
        self._action = action
        self._pending = pending
        self._cancel: Callable[[], None] = lambda: None
        pending.append(self)

    def schedule(self, control: JobControl) -> None:
        """Schedule the action in an attempt; if that is over before, it must be scheduled in the next one."""
        self._cancel = control.call_later(max(0.0, self._at - SYSTEM_CLOCK.now()), self._run)

    def cancel(self) -> None:
        """Revoke the action."""
        if self in self._pending:
            self._pending.remove(self)
        self._cancel()

    def _run(self) -> None:
        self._pending.remove(self)
        self._action()
