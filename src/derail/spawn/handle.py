"""The common handle of a rank for the supervisor, independent of the kind of process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from derail.model.exit import ExitStatus


class ProcessHandle(Protocol):
    """A started process, leader of a session and group, that only its owner reaps.

    No method blocks, and none raises because the process has ended.
    """

    @property
    def rank(self) -> int:
        """Local rank."""
        ...

    @property
    def pid(self) -> int:
        """Its pid, and the id of its process group and session. Not reused until ``reap``."""
        ...

    @property
    def exit_fd(self) -> int:
        """A descriptor that polls readable from the exit of the process on. Owned by the handle."""
        ...

    @property
    def pidfd(self) -> int | None:
        """A pidfd of the process, owned by the handle; None on platforms without, and after ``close``."""
        ...

    def peek(self) -> ExitStatus | None:
        """Return the exit status without reaping; None while it lives (also while stopped or traced).

        Once there is a status, every later call returns the same. If other code reaped the process, that is its status
        as far as it can be determined, else a lost one.
        """
        ...

    def signal(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to the process, or to its whole group; return False if there was no receiver.

        With ``group`` the members get it also when the process itself is already a zombie.
        """
        ...

    def reap(self) -> ExitStatus | None:
        """Reap the process once it has ended, and return its status. Idempotent; None if it still lives."""
        ...

    def close(self) -> None:
        """Close the handle's resources. Idempotent; does not touch the process."""
        ...


class FunctionHandle(ProcessHandle, Protocol):
    """A rank that runs a Python function."""

    @property
    def spawned_because(self) -> str:
        """Why it was spawned although another start method was requested; empty if it was not."""
        ...

    def result(self) -> Returned | NotReturned:
        """Return the function's value. Meaningful once the process has ended; never blocks, never raises."""
        ...


class Returned:
    """The ``value`` that the function returned, owned by the caller."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class NotReturned:
    """The absence of a value, with its reason: empty if the process simply never got that far."""

    __slots__ = ("reason",)

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
