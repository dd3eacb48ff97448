"""Message and traceback of an exception as text: bounded, and robust against the exception's own methods."""

from __future__ import annotations

# Imported at once: a rank that is out of descriptors or memory cannot import any more.
import traceback
from collections import deque
from typing import TYPE_CHECKING

from derail.errors.text import ends

if TYPE_CHECKING:
    from collections.abc import Iterable

TRACEBACK_LIMIT = 512 << 10
"""Characters of a traceback that are kept: with up to twelve bytes each as JSON, still within READ_LIMIT."""

MESSAGE_LIMIT = 64 << 10


def message_of(error: BaseException) -> str:
    """Return text such as ``ValueError: text``, whatever its ``__str__`` does."""
    name = type.__getattribute__(type(error), "__name__")
    try:
        # A subclass of str could still be hostile.
        text = str.__str__(str(error))
    except BaseException as hostile:  # also SystemExit: it must not end the rank in another way
        text = f"<its __str__ raised {type.__getattribute__(type(hostile), '__name__')}>"
    return ends(f"{name}: {text}", MESSAGE_LIMIT)


def traceback_of(error: BaseException, *, without: str = "") -> str:
    """Return the traceback with all causes, only both ends of it if it is very long.

    Args:
        error: the exception.
        without: file of which the leading frames are left out.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == without:
        trace = trace.tb_next
    try:
        return _both_ends(traceback.TracebackException(type(error), error, trace).format())
    except BaseException:  # hostile attributes, no memory, an endless chain
        return _both_ends((*traceback.format_tb(trace), message_of(error)))


def _both_ends(lines: Iterable[str]) -> str:
    """Join lines, with memory only for both ends."""
    head: list[str] = []
    tail: deque[str] = deque()
    room, kept = TRACEBACK_LIMIT // 2, 0
    for long in lines:
        line = ends(long, TRACEBACK_LIMIT // 2)
        if room > 0 and not tail:
            head.append(line)
            room -= len(line)
            continue
        tail.append(line)
        kept += len(line)
        while kept > TRACEBACK_LIMIT:
            kept -= len(tail.popleft())
    return ends("".join([*head, *tail]), TRACEBACK_LIMIT)
