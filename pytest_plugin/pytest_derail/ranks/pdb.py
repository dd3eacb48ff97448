"""pdb in a failed rank; it distinguishes the end of one debugging session from the end of the pytest session."""

from __future__ import annotations

import pdb  # noqa: T100 - this is what it is for
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType, TracebackType


class RankPdb(pdb.Pdb):
    """pdb with its user at another terminal.

    Args:
        rank: the rank that it runs in.
        terminal: file object for its input and output.
    """

    def __init__(self, rank: int, terminal: Any) -> None:
        super().__init__(stdin=terminal, stdout=terminal, nosigint=True)
        self.prompt = f"(Pdb rank {rank}) "
        self._quits = False

    def look_at(self, trace: TracebackType | None) -> bool:
        """Let the user debug the traceback; return whether to end the pytest session afterwards."""
        self.reset()
        self.interaction(None, trace)
        return self._quits

    def do_quit(self, arg: str) -> bool | None:
        """End the session."""
        self._quits = True
        return super().do_quit(arg)

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> bool | None:  # noqa: N802 - the name is pdb's
        """End the session: there is no more input."""
        self._quits = True
        return super().do_EOF(arg)

    def get_stack(self, f: FrameType | None, t: TracebackType | None) -> tuple[list[tuple[FrameType, int]], int]:
        """Return the stack, and the index of its last frame that is not hidden from tracebacks."""
        stack, index = super().get_stack(f, t)
        while f is None and index > 0 and stack[index][0].f_locals.get("__tracebackhide__"):
            index -= 1
        return stack, index
