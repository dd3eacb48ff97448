"""The common part of all handles of ranks that are children of this process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from derail.platform import exits, groups
from derail.spawn import descriptors

if TYPE_CHECKING:
    from derail.model.exit import ExitStatus


class Child:
    """A ``ProcessHandle`` of a child. Its methods may be called from any thread."""

    def __init__(self, rank: int, pid: int, exit_fd: exits.ExitFd) -> None:
        self._rank = rank
        self._pid = pid
        self._exit_fd = exit_fd
        self._lock = threading.Lock()
        self._status: ExitStatus | None = None
        self._reaped = False

    @property
    def rank(self) -> int:
        """Local rank."""
        return self._rank

    @property
    def pid(self) -> int:
        """Its process, process group and session."""
        return self._pid

    @property
    def exit_fd(self) -> int:
        """Descriptor that polls readable once the process has ended; -1 after ``close``."""
        return self._exit_fd.fileno()

    @property
    def pidfd(self) -> int | None:
        """The same descriptor if it is a pidfd; None on platforms without, and after ``close``."""
        return self._exit_fd.pidfd

    def peek(self) -> ExitStatus | None:
        """Return the exit status without reaping; None while it lives."""
        with self._lock:
            return self._look()

    def signal(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to the process, or to its whole group, also when the process itself is a zombie already.

        Returns False if there was no receiver. For a group, Linux counts the zombie as one until it is reaped. A group
        is not signalled if other code has reaped its leader: the pid may have been reused.
        """
        with self._lock:
            if self._reaped:
                return False
            if not group:
                return not self._has_ended() and groups.signal_process(self._pid, self._exit_fd.pidfd, number)
            return self._has_number() and groups.signal_group(self._pid, number)

    def reap(self) -> ExitStatus | None:
        """Reap the process once it has ended, and return its exit status. Idempotent; None if it still lives."""
        with self._lock:
            status = self._look()
            if status is not None and not self._reaped:
                self._reaped = self._reap()
            return status

    def close(self) -> None:
        """Close the descriptor. Idempotent; does not touch the process."""
        with self._lock:
            self._close()

    def _close(self) -> bool:
        """Close the descriptor; return whether it was open. Needs the lock, as do all methods below."""
        if self._exit_fd.closed:
            return False
        descriptors.disown(self._exit_fd.fileno())
        self._exit_fd.close()
        return True

    def _look(self) -> ExitStatus | None:
        """Return the exit status, or None while it lives."""
        if self._status is None:
            self._status = exits.peek(self._pid, self._exit_fd)
        return self._status

    def _has_ended(self) -> bool:
        """Return whether a signal would have no receiver any more."""
        return self._look() is not None

    def _has_number(self) -> bool:
        """Return whether its pid cannot have been reused."""
        return exits.is_unreaped(self._pid, self._exit_fd)

    def _reap(self) -> bool:
        """Reap the process; return whether it is out of the process table."""
        return exits.reap_ended(self._pid, self._exit_fd)
