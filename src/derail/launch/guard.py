"""What stands between a running job and the end of its launcher: signals, and the end of the interpreter."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING

from derail.launch.signals import REGISTRY
from derail.model.exit import SIGKILL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from derail.supervise.supervisor import Supervisor


class Guard:
    """Guards one job from ``set`` to ``release``."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.is_closing = False
        """Whether it was asked to end before, by a signal or by ``close``: the next signal escalates."""

    def set(self, *, ending: Iterable[int], forwarding: Iterable[int]) -> None:
        """Handle signals for the job, as far as this is the main thread, and end it at the latest with the interpreter.

        Args:
            ending: signals that raise ``SignalException``, and escalate from the second one on.
            forwarding: signals that are passed on to the ranks.
        """
        _guards.add(self)
        REGISTRY.add(self, ending=ending, forwarding=forwarding)

    def release(self) -> None:
        """The job is done: signal handlers are put back, unless another job needs them. Idempotent."""
        REGISTRY.remove(self)
        _guards.discard(self)

    @property
    def is_over(self) -> bool:
        """Whether the job is done: a signal is none of its business any more."""
        return self._supervisor.done.is_set()

    def was_asked(self) -> None:
        """The first signal is about to be raised."""
        self.is_closing = True

    def escalate(self, number: int) -> None:
        """A further signal: no more grace."""
        self._supervisor.request_stop(f"signal {number} while closing", signal=SIGKILL, grace=0)

    def forward(self, number: int) -> None:
        """Pass a signal on to each rank that lives."""
        self._supervisor.forward(number)

    def end(self) -> None:
        """Ask for the end of the job, with the grace that it was given."""
        self._supervisor.request_stop("the launcher ends")

    def wait(self) -> None:
        """Wait for the end that was asked for."""
        self._supervisor.join()


_guards: weakref.WeakSet[Guard] = weakref.WeakSet()
os.register_at_fork(after_in_child=_guards.clear)  # a forked child has no jobs, only its parent has


@atexit.register
def _end_all() -> None:
    """At the end of the interpreter no job goes on: all are asked together, and waited for."""
    guards = list(_guards)
    for guard in guards:
        guard.end()
    for guard in guards:
        guard.wait()
