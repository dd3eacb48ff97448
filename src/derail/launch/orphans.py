"""Reaping of orphans while a job runs, for a launcher that is the first process of a container.

When its parent ends, a process becomes a child of PID 1, which never started it. It stays a zombie until PID 1 waits
for it: a long job may exhaust all pids. Ranks are never reaped here: their status belongs to their job.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from derail.model.events import Finished
from derail.platform.processes import every_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.model.events import Event, JobControl
    from derail.platform.processes import ProcessInfo

INTERVAL_S = 1.0
"""Seconds between two looks. A child is reaped if two looks found it dead: code that waits for it has had its turn."""

owns_process = False
"""Whether this process is a derail command: it has no children that other code waits for later."""


def observers() -> tuple[OrphanReaper, ...]:
    """Return the observer that a job needs here: one if this process is the first of its PID namespace, else none."""
    return (OrphanReaper(),) if os.getpid() == 1 else ()


class OrphanReaper:
    """An observer that reaps orphans while its job runs."""

    wants_lines = False

    def __init__(self) -> None:
        self._control: JobControl | None = None
        self._cancel: Callable[[], None] = lambda: None
        self._dead: set[tuple[int, float]] = set()

    def attach(self, control: JobControl) -> None:
        """Start the periodic look, in the thread of the job."""
        self._control = control
        self._cancel = control.call_later(INTERVAL_S, self._look)

    def observe(self, event: Event) -> None:
        """Reap the remaining orphans at the end of the job."""
        if isinstance(event, Finished):
            self._cancel()
            self._reap()

    def _look(self) -> None:
        self._reap()
        if self._control is not None:
            self._cancel = self._control.call_later(INTERVAL_S, self._look)

    def _reap(self) -> None:
        dead = {(process.pid, process.started) for process in every_process() if self._is_orphan(process)}
        for pid, _ in dead & self._dead:
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                pass  # its owner has waited for it since the look
        self._dead = dead

    def _is_orphan(self, process: ProcessInfo) -> bool:
        """Return whether it is a dead child that this process has not started, as far as that can be determined.

        In a process other than a derail command, other code may wait for any child later. There, only a child counts
        that leads no session and is outside our session: another process of its session started it.
        """
        if process.ppid != os.getpid() or process.alive or self._control is None:
            return False
        if process.pid in {self._control.pid(rank) for rank in self._control.ranks}:
            return False
        return owns_process or process.sid not in (process.pid, os.getsid(0))
