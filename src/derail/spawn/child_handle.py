"""A rank that is a child of this process: what every kind of it has in common."""

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
        """Polls readable once the process has ended; -1 after ``close``."""
        return self._exit_fd.fileno()

    @property
    def pidfd(self) -> int | None:
        """The same descriptor if it is a pidfd; None on platforms without, and after ``close``."""
        return self._exit_fd.pidfd

    def peek(self) -> ExitStatus | None:
        """How it ended, without reaping it; None while it lives."""
        with self._lock:
            return self._look()

    def signal(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to the process, or to all its group, also when the process itself is a zombie already.

        False if nobody was there to get it. For a group, Linux counts the zombie as somebody until it is reaped. A
        group whose leader was reaped by somebody else is not signalled: the number may be a stranger's.
        """
        with self._lock:
            if self._reaped:
                return False
            if not group:
                return not self._has_ended() and groups.signal_process(self._pid, self._exit_fd.pidfd, number)
            return self._has_number() and groups.signal_group(self._pid, number)

    def reap(self) -> ExitStatus | None:
        """Take it out of the process table once it has ended. Idempotent; None if it still lives."""
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
        """Close the descriptor; whether it was open. Called with the lock held, as all that follows."""
        if self._exit_fd.closed:
            return False
        descriptors.disown(self._exit_fd.fileno())
        self._exit_fd.close()
        return True

    def _look(self) -> ExitStatus | None:
        """How it ended."""
        if self._status is None:
            self._status = exits.peek(self._pid, self._exit_fd)
        return self._status

    def _has_ended(self) -> bool:
        """Whether a signal would reach nobody any more."""
        return self._look() is not None

    def _has_number(self) -> bool:
        """Whether its number cannot be a stranger's."""
        return exits.is_unreaped(self._pid, self._exit_fd)

    def _reap(self) -> bool:
        """Take it out of the process table; whether it is out of it."""
        return exits.reap_ended(self._pid, self._exit_fd)
