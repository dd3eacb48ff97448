"""Protection of running jobs against signals to their launcher and the exit of its interpreter."""

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
    """The guard of one job, active from ``set`` to ``release``."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.is_closing = False
        """Whether a signal or ``close`` has already asked the job to end: the next signal escalates."""

    def set(self, *, ending: Iterable[int], forwarding: Iterable[int]) -> None:
        """Handle signals for the job, if this is the main thread, and end it at the latest at interpreter exit.

        Args:
            ending: signals that raise ``SignalException``; the second and later ones escalate.
            forwarding: signals that are passed on to the ranks.
        """
        _guards.add(self)
        REGISTRY.add(self, ending=ending, forwarding=forwarding)

    def release(self) -> None:
        """Restore the signal handlers of a finished job, unless another job needs them. Idempotent."""
        REGISTRY.remove(self)
        _guards.discard(self)

    @property
    def is_over(self) -> bool:
        """Whether the job is done: signals no longer concern it."""
        return self._supervisor.done.is_set()

    def was_asked(self) -> None:
        """Note that the first signal is about to be raised."""
        self.is_closing = True

    def escalate(self, number: int) -> None:
        """End the job without grace, because of a further signal."""
        self._supervisor.request_stop(f"signal {number} while closing", signal=SIGKILL, grace=0)

    def forward(self, number: int) -> None:
        """Pass a signal on to each live rank."""
        self._supervisor.forward(number)

    def end(self) -> None:
        """Request the end of the job, with the grace of its teardown."""
        self._supervisor.request_stop("the launcher ends")

    def wait(self) -> None:
        """Wait for the requested end."""
        self._supervisor.join()


_guards: weakref.WeakSet[Guard] = weakref.WeakSet()
os.register_at_fork(after_in_child=_guards.clear)  # jobs belong to the parent, a forked child has none


@atexit.register
def _end_all() -> None:
    """Stop all jobs together at interpreter exit, and wait for their ends."""
    guards = list(_guards)
    for guard in guards:
        guard.end()
    for guard in guards:
        guard.wait()
