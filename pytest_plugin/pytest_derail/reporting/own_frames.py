"""Frames of derail in the traceback of a test: shown only where derail is at fault."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

OWN = ("derail", "pytest_derail")
FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, NameError, NotImplementedError, TypeError)
"""Exceptions that no code raises on purpose: raised by derail's own code, they are a fault of derail."""


def hide(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Take derail's own frames out of a traceback, unless the exception is a fault of derail."""
    frames = list(_frames(excinfo.tb))
    if not frames or (_is_own(frames[-1]) and isinstance(excinfo.value, FAULTS)):
        return
    kept = [frame for frame in frames if not _is_own(frame)]
    if kept and len(kept) < len(frames):
        trace = None
        for frame in reversed(kept):  # pytest cuts a traceback by its first frame: it must be whole
            trace = TracebackType(trace, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        excinfo.traceback = type(excinfo.traceback)(cast("TracebackType", trace))


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_own(frame: TracebackType) -> bool:
    return str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in OWN
