"""Interface of the runtime for actions. Type checkers import it; ranks never do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .rank_plan import Part, Task

Effect: TypeAlias = "BaseException | Callable[[], object]"
"""What then happens in the main thread: the exception is raised, or the function called."""


class Runtime(Protocol):
    """The faults of a rank, in the process that acts for it.

    Attributes:
        part: of the plan.
        pid: of this process.
        on_return: what changes the value that the rank's function returns.
    """

    part: Part
    pid: int
    on_return: list[Callable[[object], object]]

    def write(self, event: str, **fields: object) -> None:
        """Append one record to the journal; OSError if that cannot be done."""
        ...

    def say(self, event: str, task: Task, **fields: object) -> None:
        """Append a record about a fault, if that can be done."""
        ...
