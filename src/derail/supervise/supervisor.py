"""The supervision of one job, from its first process to its result, in a separate thread.

Everything that happens to the ranks happens in that thread. No signal handler can interrupt it, and it does not end
before the ranks do. So whatever the threads of the caller do, ranks are started, stopped and reaped completely or not
at all.

The reasons are in docs/adr/one-thread-per-job.md.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.model.events import (
    DeadlinePassed,
    ErrorRecorded,
    Exited,
    Finished,
    PhaseChanged,
    SignalSent,
    Started,
    StopRequested,
    ValueReceived,
)
from derail.model.exit import SIGKILL
from derail.model.spec import Function
from derail.platform.processes import known_processes
from derail.platform.sigchld import default_sigchld
from derail.platform.threads import Flag, block_signals, start_thread, unblocked_signals
from derail.supervise.loop import Loop
from derail.supervise.observers import Control, Listeners
from derail.supervise.order import Exiting, Recorded
from derail.supervise.policy import Enter, Look, Policy, Release, SetDeadline, Signal
from derail.supervise.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from derail.errors.identity import Identity
    from derail.model.clock import Clock
    from derail.model.events import Event, Observer
    from derail.model.outcome import RunProcsResult
    from derail.model.spec import JobSpec
    from derail.supervise.hang_report import Hang
    from derail.supervise.log_readers import LogReader
    from derail.supervise.policy import Action


STACK_SECONDS = 2.0
"""Maximum seconds that SIGKILL waits for the stacks of ranks that do not end."""

PATIENCE = 1.0
"""Seconds after which a waiting main thread wakes: the kernel may have given a signal to a thread of other code."""


RANKS_A_TURN = 16
"""Ranks that are started between two turns of the loop, while no action is posted."""


SETTLED = 0.05
"""Seconds from the start of the last rank to the import of modules for the end of the job."""


class SupervisorError(RuntimeError):
    """A failure of derail's own supervision. The ranks have been ended; the cause is chained."""


class Supervisor:
    """A job in a thread: ``start`` it, ``request_stop`` it, wait for ``done``, read ``result``."""

    def __init__(
        self,
        spec: JobSpec,
        *,
        observers: Sequence[Observer] = (),
        readers: Callable[[Listeners], Sequence[LogReader]] = lambda _: (),
        stale: Mapping[int, Identity] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.spec = spec
        self.done = Flag()
        self.result: RunProcsResult | None = None
        self.timed_out = False
        self._clock = clock
        self._loop = Loop(clock)
        self._make_readers = readers
        self._readers: Sequence[LogReader] = ()
        self._stale = stale or {}
        self._specs = {rank.rank: rank for rank in spec.ranks}
        functions = {rank.rank for rank in spec.ranks if isinstance(rank.run, Function)}
        self._only_programs = not functions  # a fork of this process must not run its signal handlers
        self._policy = Policy(functions, ranks=self._specs, teardown=spec.teardown)
        self.ranks = Ranks(spec, self._loop, clock, functions=bool(functions), stale=self._stale)
        control = Control(self._specs, self.ranks, self._loop, clock, in_own_thread=lambda: self.in_own_thread)
        self._listeners = Listeners(observers, control)
        self._pending: deque[Action] = deque()
        self._started_at = self._started_wall = 0.0
        self._known: frozenset[tuple[int, int]] = frozenset()
        self._hangs: dict[int, Hang] = {}
        self._start_error: BaseException | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._started = Flag()

    # ---- the caller's side: any thread

    def start(self) -> None:
        """Start all ranks, and return when they run.

        Raises:
            OSError: if a rank could not be started; the ranks before it have been ended, and nothing is left.
        """
        self._thread = threading.Thread(target=self._run, name=f"derail-{self.spec.name}", daemon=True)
        start_thread(self._thread)
        while not self._started.wait(PATIENCE):
            pass
        if self._start_error is not None:
            self.join()
            raise self._start_error
        self._raise_own_error()

    def request_stop(self, reason: str, *, signal: int | None = None, grace: float | None = None) -> None:
        """Request the end of the job; a further request can only bring it forward. Does not wait, and never raises."""
        teardown = self.spec.teardown
        self._loop.post(
            lambda: self._feed(
                StopRequested(
                    reason=reason,
                    signal=teardown.signal if signal is None else signal,
                    grace=teardown.grace if grace is None else grace,
                    at=self._clock.now(),
                )
            )
        )

    def look(self) -> None:
        """Let the job process all events until now; if it is over then, wait for its result."""
        looked = Flag()

        def take_a_look() -> None:
            self._take_exits()
            self._perform()
            looked.set()

        if self._loop.post(take_a_look):
            while not (looked.wait(0.05) or self.done.is_set()):
                pass
        if self._policy.phase == "done" and not self.in_own_thread:
            self.join()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the job, for at most ``timeout`` seconds; return whether it is over."""
        end = None if timeout is None else self._clock.now() + timeout
        while not self.done.is_set():
            left = PATIENCE if end is None else min(PATIENCE, end - self._clock.now())
            if left <= 0:
                break
            self.done.wait(left)
        return self.done.is_set()

    def join(self) -> None:
        """Wait for the end of the job's thread. Bounded if the end of the job has been requested."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        while not self.done.wait(1.0):
            if thread.ident is None:
                return  # an exception in our caller came before the thread's start
        thread.join()

    def finished_result(self) -> RunProcsResult | None:
        """Return the result, once the job is done: always the same object; None before.

        Raises:
            SupervisorError: if the supervision itself failed.
        """
        if self.done.is_set():
            self.join()
            self._raise_own_error()
        return self.result

    @property
    def in_own_thread(self) -> bool:
        """Whether the caller runs in the job's own thread, in an observer."""
        return threading.current_thread() is self._thread

    def forward(self, number: int) -> None:
        """Pass a signal on to every live rank; from any thread. A rank that dies of it failed by itself."""
        self._loop.post(lambda: self._forward(number))

    def _forward(self, number: int) -> None:
        for rank in self.ranks.handles:
            self.ranks.signal(rank, number, group=False)

    def _raise_own_error(self) -> None:
        if self._error is not None:
            raise SupervisorError(
                f"derail could not supervise job {self.spec.name!r} any longer: {self._error!r}; its ranks were ended"
            ) from self._error

    # ---- the job's own thread

    def _run(self) -> None:
        # Signals are for the main thread. Python would notice one that the kernel gave to this thread, but it would not
        # wake the main thread out of the lock that it waits for.
        block_signals()
        try:
            with default_sigchld(), ExitStack() as stack:
                self._open(stack)
                with unblocked_signals() if self._only_programs else nullcontext():
                    self._start_ranks()
                self.ranks.forget_the_rest()
                self._loop.call_at(self._clock.now() + SETTLED, _load_the_end)
                self._started.set()
                while self._policy.phase != "done":
                    self._loop.run_once(None)
                    self._take_exits()
                    self._perform()
                self._finish()
        except BaseException as error:
            if self._started_at or not isinstance(error, OSError):
                self._error = error
            else:  # nothing was started: no descriptor, no process left ...
                self._start_error = error
        finally:
            self._started.set()
            self.done.set()

    def _open(self, stack: ExitStack) -> None:
        self._readers = self._make_readers(self._listeners)  # consoles are open already: close them on every path
        stack.callback(self._close_readers)
        stack.callback(self._loop.close)
        self._loop.open()
        self._known = known_processes()
        self.ranks.open(stack, self._clock)
        if self.ranks.returns is not None:
            self._loop.add_reader(self.ranks.returns.done_fd, self._take_returns)
        self._listeners.attach()
        for reader in self._readers:
            reader.join_loop(self._loop)

    def _start_ranks(self) -> None:
        self._started_at, self._started_wall = self._clock.now(), self._clock.wall()
        for place, rank in enumerate(self.spec.ranks):
            if self._loop.has_mail or place % RANKS_A_TURN == 0:
                self._loop.run_once(0)  # the end of the job may have been requested by now
            self._perform()
            if self._policy.phase != "starting":
                return
            self._listeners.tell(PhaseChanged("starting", at=self._clock.now(), rank=rank.rank))
            try:
                handle = self.ranks.start(rank, held=self._held)
            except Exception as error:
                self._start_error = error
                reason = f"rank {rank.rank} could not be started"
                self._feed(StopRequested(reason, signal=SIGKILL, grace=0, at=self._clock.now()))
                self._perform()
                return
            self._feed(Started(rank.rank, handle.pid, at=self._clock.now()))
        self._pending += self._policy.all_started(self._clock.now())
        self._perform()

    def _held(self) -> list[int]:
        """Return descriptors of the readers, which a forked rank does not need."""
        return [fd for reader in self._readers for fd in reader.descriptors()]

    def _take_exits(self, *, look: bool = False, final: bool = False) -> None:
        """Process all exits and recorded errors until now, in the order in which they happened."""
        for each in self.ranks.happened(look=look, final=final):
            if isinstance(each, Exiting):
                self._policy.exiting(each.rank, each.order, each.ends)
                continue
            if isinstance(each, Recorded):
                if each.message is None:
                    self._policy.announce(each.rank, each.at, each.order)
                    continue
                recorded = ErrorRecorded(each.rank, each.message, each.at, each.order, may_be_older=each.may_be_older)
                self._feed(recorded)
                continue
            self._take_returns()
            if self._listeners.want_lines:
                for reader in self._readers:
                    reader.read_now()
            handle = each.handle
            self._feed(Exited(handle.rank, handle.pid, each.status, at=self._clock.now(), order=each.order))

    def _take_returns(self) -> None:
        if self.ranks.returns is not None:
            for rank in self.ranks.returns.read_done():
                self._feed(ValueReceived(rank, at=self._clock.now()))

    def _feed(self, event: Event) -> None:
        """Pass an event to the observers, then to the policy; ``_perform`` carries out the resulting actions."""
        self._listeners.tell(event)
        self._pending += self._policy.handle(event)

    def _perform(self) -> None:
        while self._pending:
            action = self._pending.popleft()
            match action:
                case Signal(ranks=ranks, signal=number, spared=spared):
                    self._take_exits(look=True)
                    addressed = set(ranks)
                    for rank in self.ranks.signal_groups(number, spared=set(spared)):
                        if rank in addressed:
                            self._feed(SignalSent(rank, number, at=self._clock.now()))
                case SetDeadline(name=name, at=at):
                    self._loop.call_at(at, lambda name=name: self._deadline(name))  # type: ignore[misc]
                case Look(ranks=ranks):
                    from derail.supervise.hang_report import report_hangs

                    self._hangs |= report_hangs(
                        {rank: self.ranks.handles[rank].pid for rank in ranks},
                        {rank: self._specs[rank].streams.stderr for rank in ranks},
                        patience=STACK_SECONDS,
                    )
                case Release():
                    assert self.ranks.returns is not None
                    self.ranks.returns.release()
                case Enter(phase=phase):
                    self._listeners.tell(PhaseChanged(phase, at=self._clock.now()))

    def _deadline(self, name: str) -> None:
        # A rank that has ended by now has ended in time, however late this thread runs. At the last deadline, a rank
        # that has ended without a known status is not abandoned, nor are those behind it.
        self._take_exits(final=name == "abandon")
        self._perform()
        if self._policy.phase != "done":
            self._feed(DeadlinePassed(name, at=self._clock.now()))
            self._perform()

    def _finish(self) -> None:
        """Sweep, read the last lines, build the result and publish it: all ranks have ended or are abandoned."""
        from derail.supervise.result_builder import Harvest, harvest
        from derail.supervise.sweep import sweep

        signalled = self._policy.stop_requested_at is not None
        leftovers = sweep(self.spec, self.ranks.handles, known=self._known, signalled=signalled, clock=self._clock)
        if not leftovers and all(handle.peek() is not None for handle in self.ranks.handles.values()):
            self.ranks.all_ended()
        missed = self._close_readers()
        result = harvest(
            Harvest(
                spec=self.spec,
                policy=self._policy,
                handles=self.ranks.handles,
                stale=self._stale,
                stacks={rank: hang.complete() for rank, hang in self._hangs.items()},
                leftovers=leftovers,
                console_missed=missed,
                timed_out=self.timed_out,
                started_at=self._started_at,
                started_wall=self._started_wall,
            ),
            self._clock,
        )
        self._listeners.tell(Finished(result, at=self._clock.now()))
        self.result = result

    def _close_readers(self) -> int:
        readers, self._readers = self._readers, ()
        for reader in readers:
            reader.finish()
        return sum(reader.close() for reader in readers)


def _load_the_end() -> None:
    """Import modules for the end of a job while its ranks are busy: neither derail's import nor the start of ranks
    waits for them."""
