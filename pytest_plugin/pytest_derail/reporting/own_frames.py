"""Frames of derail in the traceback of a test: shown only for an error of derail itself."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

OWN = ("derail", "pytest_derail")
FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, NameError, NotImplementedError, TypeError)
"""Exceptions that are not raised on purpose: from derail's own code, they indicate a bug in derail."""


def hide(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Remove derail's own frames from a traceback, unless the exception is a bug in derail."""
    frames = list(_frames(excinfo.tb))
    if not frames or (_is_own(frames[-1]) and isinstance(excinfo.value, FAULTS)):
        return
    kept = [frame for frame in frames if not _is_own(frame)]
    if kept and len(kept) < len(frames):
        trace = None
        for frame in reversed(kept):  # pytest cuts a traceback by its first frame: the chain must be complete
            trace = TracebackType(trace, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        excinfo.traceback = type(excinfo.traceback)(cast("TracebackType", trace))


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_own(frame: TracebackType) -> bool:
    return str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in OWN
