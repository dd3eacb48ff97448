"""Present position of a rank, according to its frames."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from types import CodeType, FrameType

HERE = os.path.dirname(os.path.abspath(__file__))
ENGINE = frozenset(
    os.path.join(HERE, *name)
    for name in (("runtime.py",), ("frames.py",), ("hooks", "hit_counter.py"), ("hooks", "main_module_calls.py"))
)
"""Files with the code that counts events of the program, and injects faults."""


def place(frame: FrameType | None) -> str:
    """Return the program's position (``train.py:12 in main``), without frames of derail or the import machinery."""
    while frame is not None and frame.f_code.co_filename.startswith((HERE, "<frozen importlib")):
        frame = frame.f_back
    if frame is None:
        return "no frame"
    code = frame.f_code
    return f"{os.path.basename(code.co_filename)}:{frame.f_lineno or code.co_firstlineno} in {code.co_name}"


def is_starting_up(frame: FrameType | None) -> bool:
    """Return whether Python has not reached the program yet: the outermost frame imports ``site``."""
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    outermost = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return outermost.partition(".")[0] in ("site", "sitecustomize", "importlib", "_frozen_importlib", "encodings")


def is_within(frame: FrameType | None, working: Container[CodeType], lasting: Container[CodeType]) -> bool:
    """Return whether a signal handler has interrupted derail's own code, and must not raise there.

    That is possible between any two instructions before Python 3.10, in the trace function of a program, and wherever
    derail calls something.

    Args:
        frame: the interrupted frame.
        working: code that must not be interrupted: it would take the exception for its own failure.
        lasting: code of ``ENGINE`` that waits, and may be interrupted. All other code there, and what it calls, is
            about to count or raise something, which would be lost. The effect of a fault is elsewhere, and may last.
    """
    nearest = frame
    while nearest is not None and not nearest.f_code.co_filename.startswith(HERE):
        nearest = nearest.f_back
    if nearest is not None and nearest.f_code.co_filename in ENGINE and nearest.f_code not in lasting:
        return True
    while frame is not None and frame.f_code not in working:
        frame = frame.f_back
    return frame is not None
