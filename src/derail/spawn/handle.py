"""The one handle by which the supervisor holds a rank, whatever kind of process it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from derail.model.exit import ExitStatus


class ProcessHandle(Protocol):
    """A started process, leader of its own session and group, that is reaped only when its owner says so.

    None of the methods blocks, and none raises because the process has ended meanwhile.
    """

    @property
    def rank(self) -> int:
        """Local rank."""
        ...

    @property
    def pid(self) -> int:
        """Its process id, and the id of its process group and session. Nobody else's until ``reap``."""
        ...

    @property
    def exit_fd(self) -> int:
        """A descriptor that polls readable from the moment the process has ended. Owned by the handle."""
        ...

    @property
    def pidfd(self) -> int | None:
        """A pidfd of the process, owned by the handle; None on platforms without, and after ``close``."""
        ...

    def peek(self) -> ExitStatus | None:
        """How it ended, without reaping it; None while it lives (also while stopped or traced). The same answer again
        once it has one. If somebody else reaped it, the status as far as it can be learnt, else a lost one."""
        ...

    def signal(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to the process, or to its whole group; False if nobody was there to get it.

        With ``group`` the members get it also when the process itself is already a zombie.
        """
        ...

    def reap(self) -> ExitStatus | None:
        """Take the process out of the process table once it has ended. Idempotent; None if it still lives."""
        ...

    def close(self) -> None:
        """Close what the handle holds. Idempotent; does not touch the process."""
        ...


class FunctionHandle(ProcessHandle, Protocol):
    """A rank that runs a Python function."""

    @property
    def spawned_because(self) -> str:
        """Why it was spawned although another start method was asked for; empty if it was not."""
        ...

    def result(self) -> Returned | NotReturned:
        """What the function returned. Meaningful once the process has ended; never blocks, never raises."""
        ...


class Returned:
    """The function returned ``value``, which is the caller's to keep."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class NotReturned:
    """There is no value, and why: empty if the process simply never got that far."""

    __slots__ = ("reason",)

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
