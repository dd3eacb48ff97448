"""pdb in a rank that has failed: it tells the end of a look from the end of the session."""

from __future__ import annotations

import pdb  # noqa: T100 - this is what it is for
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType


class RankPdb(pdb.Pdb):
    """pdb whose user is somewhere else.

    Args:
        rank: whose it is.
        terminal: what is read from and written to.
    """

    def __init__(self, rank: int, terminal: Any) -> None:
        super().__init__(stdin=terminal, stdout=terminal, nosigint=True)
        self.prompt = f"(Pdb rank {rank}) "
        self._quits = False

    def look_at(self, trace: TracebackType | None) -> bool:
        """Let the user look at what was raised; whether the session is to end then."""
        self.reset()
        self.interaction(None, trace)
        return self._quits

    def do_quit(self, arg: str) -> bool | None:
        """End the session."""
        self._quits = True
        return super().do_quit(arg)

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> bool | None:  # noqa: N802 - the name is pdb's
        """End the session: there is nobody to ask."""
        self._quits = True
        return super().do_EOF(arg)

    def get_stack(self, f: FrameType | None, t: TracebackType | None) -> tuple[list[tuple[FrameType, int]], int]:
        """The stack, and the last frame in it that is not hidden from tracebacks."""
        stack, index = super().get_stack(f, t)
        while f is None and index > 0 and stack[index][0].f_locals.get("__tracebackhide__"):
            index -= 1
        return stack, index
