"""pdb in a rank, with its user at the terminal of the pytest run."""

from __future__ import annotations

import os
import pdb  # noqa: T100 - this is what it is for
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.ranks.worker.terminal import ACCESS, NOT_ATTENDED, Terminal, refuse

if TYPE_CHECKING:
    from types import FrameType, TracebackType


Base = pdb.Pdb
"""Python's own class. Classes that derive from it call its methods by the name ``pdb.Pdb``, which is replaced."""


class RankPdb(Base):
    """pdb that gets the terminal when it stops, and releases it when the user continues.

    It replaces ``pdb.Pdb`` in ranks, so that ``torch.distributed.breakpoint`` and others that derive from that class
    get the terminal as well. With streams of the caller it is a plain pdb.
    """

    def __init__(self, *args: Any, terminal: Terminal | None = None, **options: Any) -> None:
        has_streams = len(args) > 1 or options.get("stdin") is not None or options.get("stdout") is not None
        self._terminal = None if has_streams else terminal or Terminal("breakpoint")
        if self._terminal is not None:
            options.update(stdin=self._terminal, stdout=self._terminal, nosigint=True)
        Base.__init__(self, *args, **options)
        if self._terminal is not None:
            self.prompt = f"(Pdb rank {os.environ.get('RANK', '?')}) "

    def set_trace(self, frame: FrameType | None = None, **options: Any) -> None:
        """Stop at the next line of ``frame``, by default the caller's."""
        __tracebackhide__ = True
        if _terminal_of(self) is not None and not ACCESS.address:
            refuse()
        Base.set_trace(self, frame or sys._getframe(1), **options)  # noqa: SLF001 - as pdb itself does

    def interaction(self, frame: FrameType | None, *args: Any) -> None:
        """Let the user debug, after waiting for the terminal."""
        __tracebackhide__ = True
        terminal = _terminal_of(self)
        if terminal is not None:
            if not ACCESS.address:
                self.set_continue()
                refuse()
            try:
                has_terminal = terminal.open()
            except OSError:
                self.set_continue()
                refuse(NOT_ATTENDED)
            if not has_terminal:  # the session ends, or another rank has failed first
                self.set_continue()
                return
        Base.interaction(self, frame, *args)

    def look_at(self, trace: TracebackType | None) -> None:
        """Let the user debug the traceback of a failure."""
        self.reset()
        try:
            self.interaction(None, trace)
        except pytest.exit.Exception:
            pass  # the controller ends the session when it has reported the failure
        finally:
            if self._terminal is not None:
                self._terminal.close()

    def do_continue(self, arg: str) -> bool | None:
        """Continue, and release the terminal."""
        result = Base.do_continue(self, arg)
        terminal = _terminal_of(self)
        if terminal is not None:
            terminal.close()
        return result

    do_c = do_cont = do_continue

    def do_quit(self, arg: str) -> bool | None:
        """End the pytest session; in a debugger inside this one (``debug``), only that one."""
        result = Base.do_quit(self, arg)
        terminal = _terminal_of(self)
        if terminal is not None:
            terminal.close(quits=True)
            pytest.exit("Quitting debugger")
        return result

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> bool | None:  # noqa: N802 - the name is pdb's
        """End the session: there is no more input."""
        return self.do_quit(arg)

    def get_stack(self, f: FrameType | None, t: TracebackType | None) -> tuple[list[tuple[FrameType, int]], int]:
        """Return the stack, and the index of its last frame that is not hidden from tracebacks."""
        stack, index = Base.get_stack(self, f, t)
        while f is None and index > 0 and stack[index][0].f_locals.get("__tracebackhide__"):
            index -= 1
        return stack, index


def _terminal_of(debugger: object) -> Terminal | None:
    """Return the terminal of a debugger; None if its class was derived before ``pdb.Pdb`` was replaced."""
    terminal: Terminal | None = getattr(debugger, "_terminal", None)
    return terminal
