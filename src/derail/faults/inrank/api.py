"""Interface of the runtime for actions. Type checkers import it; ranks never do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .rank_plan import Part, Task

Effect: TypeAlias = "BaseException | Callable[[], object]"
"""Effect on the main thread: the exception is raised, or the function is called."""


class Runtime(Protocol):
    """Faults of a rank, in the process that acts for it.

    Attributes:
        part: the rank's part of the plan.
        pid: the pid of this process.
        on_return: functions that change the value returned by the rank's function.
    """

    part: Part
    pid: int
    on_return: list[Callable[[object], object]]

    def write(self, event: str, **fields: object) -> None:
        """Append one record to the journal; raises OSError if that fails."""
        ...

    def say(self, event: str, task: Task, **fields: object) -> None:
        """Append a record about a fault, ignoring write errors."""
        ...
