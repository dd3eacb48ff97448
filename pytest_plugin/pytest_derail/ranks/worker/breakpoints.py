"""``breakpoint()`` in a rank, which has no terminal: an error that says how to get a debugger, not an empty input."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

HOW = "run this test with --pdb: the first rank that fails opens pdb where it failed, also at a breakpoint"


def add_hint(error: BaseException) -> None:
    """Add a note to the exception of a debugger whose input was empty: how to get a debugger with input."""
    if type(error).__name__ == "BdbQuit":
        error.add_note(f"the debugger reached the end of its input: a rank has no terminal. To debug it, {HOW}")


class NoTerminalError(RuntimeError):
    """Error for a breakpoint in a rank, which has no terminal."""


def explain(how: str = HOW) -> None:
    """Make ``breakpoint()``, ``pdb.set_trace()`` and ``pytest.set_trace()`` in this process fail with an explanation.

    PYTHONBREAKPOINT keeps its meaning: 0 skips breakpoints, a name is called.
    """

    def set_trace(*_: Any, **__: Any) -> NoReturn:
        __tracebackhide__ = True
        rank = os.environ.get("RANK", "?")
        text = f"breakpoint() in rank {rank}: a rank has no terminal. To debug it, {how}"
        if "pytest" in sys.modules:
            import pytest

            pytest.fail(text)  # no "except Exception" of the test catches it
        raise NoTerminalError(text)

    for name in ("pdb", "pytest"):
        module: Any = sys.modules.get(name)
        if module is not None:
            module.set_trace = set_trace
    if not os.environ.get("PYTHONBREAKPOINT") and sys.breakpointhook is sys.__breakpointhook__:
        sys.breakpointhook = set_trace
