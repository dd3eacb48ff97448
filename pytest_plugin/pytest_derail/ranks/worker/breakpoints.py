"""``breakpoint()`` in a rank, which has no terminal: it says how to get a debugger, and reads no empty input."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

HOW = "run this test with --pdb: the first rank that fails stays where it is, in a pdb of its own, here too"


def add_hint(error: BaseException) -> None:
    """Say of an exception that a debugger has raised because its input was empty how to get one with input."""
    if type(error).__name__ == "BdbQuit":
        error.add_note(f"a debugger has read the end of its input: a rank has no terminal. To look into it, {HOW}")


class NoTerminalError(RuntimeError):
    """A rank has come to a breakpoint, and has no terminal."""


def explain(how: str = HOW) -> None:
    """Have ``breakpoint()``, ``pdb.set_trace()`` and ``pytest.set_trace()`` fail in this process and say how to get a
    debugger. PYTHONBREAKPOINT keeps its meaning: 0 skips breakpoints, a name is called."""

    def set_trace(*_: Any, **__: Any) -> NoReturn:
        __tracebackhide__ = True
        rank = os.environ.get("RANK", "?")
        text = f"breakpoint() in rank {rank}: a rank has no terminal. To look into it, {how}"
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
