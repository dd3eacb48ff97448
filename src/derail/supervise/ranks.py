"""The processes of one job: started, watched, signalled and reaped, all in the job's own thread."""

from __future__ import annotations

import os
import select
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

from derail.model.exit import SIGKILL
from derail.platform.exits import is_readable
from derail.platform.lifeline import Lifeline
from derail.platform.marks import mark_rank
from derail.platform.processes import is_exiting, is_proc_foreign
from derail.spawn.start import ask_rank, start_rank
from derail.supervise.order import Order
from derail.supervise.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import ExitStack

    from derail.errors.protocol import Identity
    from derail.model.clock import Clock
    from derail.model.spec import JobSpec, RankSpec
    from derail.spawn.handle import ProcessHandle
    from derail.spawn.return_values import Returns
    from derail.spawn.zygote.client import AskedRank
    from derail.supervise.loop import Loop
    from derail.supervise.order import Ended, Exiting, Recorded


AHEAD = 8
"""Number of ranks that may be made ready concurrently, where their start method allows it."""


_abandoned: list[ProcessHandle] = []
_abandoned_lock = threading.Lock()


class Ranks:
    """The handles of all started ranks.

    No rank is reaped before the end of the job: until then the pid of a rank, and so the id of its group and session,
    cannot be reused.
    """

    def __init__(
        self, spec: JobSpec, loop: Loop, clock: Clock, *, functions: bool, stale: Mapping[int, Identity]
    ) -> None:
        self.handles: dict[int, ProcessHandle] = {}
        self.returns: Returns | None = None
        self._spec = spec
        self._loop = loop
        self._functions = functions
        self._lifeline = Lifeline(spec.job_id)
        self._order = Order(Records(stale), loop, clock)
        self._asked: dict[int, AskedRank] = {}
        self._places = {rank.rank: place for place, rank in enumerate(spec.ranks)}
        self._foreseen = 0

    def open(self, stack: ExitStack, clock: Clock) -> None:
        """Acquire the resources to start ranks; ``stack`` releases them, and leaves no rank behind.

        Raises:
            OSError: if there is no descriptor or process left.
        """
        self._order.open(stack, self._spec.ranks)
        _reap_abandoned()
        stack.callback(self._lifeline.stop)
        self._lifeline.start()
        if self._functions:
            from derail.spawn.return_values import Returns

            self.returns = Returns(rank.rank for rank in self._spec.ranks)
            stack.callback(self.returns.close)
            self.returns.open()
        stack.callback(self._put_down, clock)
        stack.callback(self.forget_the_rest)

    def start(self, spec: RankSpec, *, held: Callable[[], list[int]]) -> ProcessHandle:
        """Start a rank and watch it.

        Args:
            spec: the rank.
            held: returns descriptors of others that a rank forked from this process closes along with ours.

        Raises:
            OSError: if it cannot be started.
        """

        def in_child() -> None:
            _close(
                [
                    *held(),
                    *self._loop.descriptors(),
                    *self._order.descriptors(),
                    *(handle.exit_fd for handle in self.handles.values()),
                ]
            )

        self._foresee(spec)
        asked = self._asked.pop(spec.rank, None)
        self._order.expect(spec)
        # A forked rank is covered by it from its first instruction.
        with self._lifeline.adopts_forks() if self._functions else nullcontext():
            handle = self.handles[spec.rank] = start_rank(spec, returns=self.returns, in_child=in_child, asked=asked)
        self._order.add(handle)  # at once: from here on the order of its exit is known
        if self._places[spec.rank] == len(self._places) - 1:
            self._order.settle()  # as before each other start
        self._lifeline.register(handle.pid)
        mark_rank(spec.env, spec.rank, pid=handle.pid)
        return handle

    def _foresee(self, spec: RankSpec) -> None:
        """Have the following ranks made ready. They run nothing, and do not count as ranks, before they are started."""
        end = self._places[spec.rank] + AHEAD
        for each in self._spec.ranks[self._foreseen : end]:
            asked = ask_rank(each, returns=self.returns)
            if asked is not None:
                self._asked[each.rank] = asked
        self._foreseen = max(self._foreseen, end)

    def forget_the_rest(self) -> None:
        """Cancel the ranks that will not be started. Idempotent."""
        while self._asked:
            self._asked.popitem()[1].cancel()

    def happened(self, *, look: bool = False, final: bool = False) -> Iterator[Ended | Exiting | Recorded]:
        """Yield exits, also those under way, and recorded errors, each once, in the order in which they happened.

        Args:
            look: check error files of which the kernel announces no change, even if no rank has ended.
            final: do not wait for any exit status.
        """
        return self._order.take(look=look, final=final)

    def pids(self) -> dict[int, int]:
        """Return the process of each rank that was started; from any thread."""
        return {rank: handle.pid for rank, handle in dict(self.handles).items()}

    def signal(self, rank: int, number: int, *, group: bool) -> bool:
        """Send a signal to a rank or its group; return False if the rank had ended."""
        handle = self.handles.get(rank)
        return handle is not None and handle.peek() is None and handle.signal(number, group=group)

    def signal_groups(self, number: int, *, spared: Collection[int] = ()) -> list[int]:
        """Send a signal to the group of every rank that is not spared, also to remaining processes of ended ranks.

        SIGKILL is sent to the ranks only: a helper in the group cleans up behind its rank, and the sweep ends the
        others.

        Returns:
            The ranks that lived when their group was signalled.
        """
        living, foreign = [], is_proc_foreign()
        for rank, handle in self.handles.items():
            if rank in spared:
                continue
            # Checked right before. Later would be too late: the rank may have answered the signal by its exit already.
            # The kernel may have announced an exit before its status has arrived from the zygote.
            dead = is_readable(handle.exit_fd) or (handle.pidfd is None and handle.peek() is not None)
            ended = dead or is_exiting(handle.pid, foreign=foreign)
            if handle.signal(number, group=number != SIGKILL) and not ended:
                living.append(rank)
        return living

    def all_ended(self) -> None:
        """Release the lifeline, which would end leftovers of a killed launcher: all ranks have ended without any."""
        self._lifeline.let_go()

    def _put_down(self, clock: Clock) -> None:
        """Kill and reap all remaining ranks on every path; usually all have ended long before."""
        for handle in self.handles.values():
            if handle.peek() is None:
                handle.signal(SIGKILL, group=True)
        deadline = clock.now() + self._spec.teardown.kill_wait
        for handle in self.handles.values():
            _abandon(handle, deadline, clock)


def _close(fds: list[int]) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def _abandon(handle: ProcessHandle, deadline: float, clock: Clock) -> None:
    """Reap a rank, waiting until ``deadline`` if need be; one that stays is reaped when a later job begins."""
    while handle.reap() is None:
        left = deadline - clock.now()
        waiting = select.poll()  # not select(): descriptors may be beyond 1024
        waiting.register(handle.exit_fd, select.POLLIN)
        if left <= 0 or not waiting.poll(left * 1000):
            with _abandoned_lock:
                _abandoned.append(handle)
            return
    handle.close()


def _reap_abandoned() -> None:
    """Reap abandoned ranks of earlier jobs that have ended since."""
    with _abandoned_lock:
        for handle in list(_abandoned):
            if handle.reap() is not None:
                handle.close()
                _abandoned.remove(handle)
