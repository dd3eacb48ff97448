"""``breakpoint()`` in a rank: it gets the terminal of the pytest run, or it fails with an explanation."""

from __future__ import annotations

import os
import sys
from typing import Any

from pytest_derail.ranks.worker.terminal import ACCESS, WITHOUT_TERMINAL, refuse


def add_hint(error: BaseException) -> None:
    """Add a note to the exception of a debugger whose input was empty: how to get a debugger with input."""
    if type(error).__name__ == "BdbQuit":
        error.add_note(f"the debugger reached the end of its input: {WITHOUT_TERMINAL}")


def set_trace(*_: Any, header: str | None = None, **__: Any) -> None:
    """Debug the caller."""
    __tracebackhide__ = True
    if not ACCESS.address:
        refuse()
    from pytest_derail.ranks.pdb import RankPdb

    debugger = RankPdb()
    if header is not None:
        debugger.message(header)
    debugger.set_trace(sys._getframe(1))  # noqa: SLF001 - as pdb itself does


def take_over(address: str = "", refusal: str = WITHOUT_TERMINAL) -> None:
    """Make ``breakpoint()``, ``pdb`` and ``pytest.set_trace()`` in this process use the controller's terminal.

    PYTHONBREAKPOINT keeps its meaning: 0 skips breakpoints, a name is called.

    Args:
        address: the endpoint of the controller; without one, they fail.
        refusal: the explanation of that failure.
    """
    ACCESS.address, ACCESS.refusal = address, refusal
    for name in ("pdb", "pytest"):
        module: Any = sys.modules.get(name)
        if module is not None:
            module.set_trace = set_trace
        if module is not None and name == "pdb":
            from pytest_derail.ranks.pdb import RankPdb

            module.Pdb = RankPdb
    if sys.breakpointhook is sys.__breakpointhook__ and not os.environ.get("PYTHONBREAKPOINT"):
        sys.breakpointhook = set_trace
