"""Start a rank, whatever kind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.model.spec import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.model.spec import RankSpec
    from derail.spawn.handle import ProcessHandle
    from derail.spawn.values import Returns


def start_rank(
    spec: RankSpec, *, returns: Returns | None = None, in_child: Callable[[], None] | None = None
) -> ProcessHandle:
    """Start the process of ``spec``: a program, or a Python function whose value goes to ``returns``.

    Args:
        spec: what to run.
        returns: where the values of the job's functions are kept; only needed for functions.
        in_child: called first thing in a rank that is forked from this very process.

    Raises:
        OSError: if the process cannot be started; nothing of it is left then.
    """
    if isinstance(spec.run, Command):
        from derail.spawn.command import start_command

        return start_command(spec)
    from derail.spawn.function import start_function

    assert returns is not None, "a function rank needs a place for its value"
    return start_function(spec, returns, in_child=in_child)
