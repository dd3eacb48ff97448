"""Start of a rank of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.model.spec import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.model.spec import RankSpec
    from derail.spawn.handle import ProcessHandle
    from derail.spawn.return_values import Returns
    from derail.spawn.zygote.client import AskedRank


def ask_rank(spec: RankSpec, *, returns: Returns | None = None) -> AskedRank | None:
    """Have the process of ``spec`` made ready for ``start_rank``, if its kind can be; start or cancel the result."""
    if returns is None or isinstance(spec.run, Command):
        return None
    from derail.spawn.function import ask_function

    return ask_function(spec, returns)


def start_rank(
    spec: RankSpec,
    *,
    returns: Returns | None = None,
    in_child: Callable[[], None] | None = None,
    asked: AskedRank | None = None,
) -> ProcessHandle:
    """Start the process of ``spec``: a program, or a Python function that sends its value to ``returns``.

    Args:
        spec: what to run.
        returns: storage for the values of the job's functions; only needed for functions.
        in_child: called first in a rank that is forked from this very process.
        asked: result of ``ask_rank`` for this rank.

    Raises:
        OSError: if the process cannot be started; nothing of it is left then.
    """
    if isinstance(spec.run, Command):
        from derail.spawn.command import start_command

        return start_command(spec)
    from derail.spawn.function import start_function

    assert returns is not None, "a function rank needs a place for its value"
    return start_function(spec, returns, in_child=in_child, asked=asked)
