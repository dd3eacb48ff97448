"""In a rank of a pool: call functions as the controller sends them, one after the other.

Functions, values and exceptions are in files, so that messages are short: the controller never waits for the rest of a
message of a rank that was stopped.
"""

from __future__ import annotations

import os
import pickle
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.jobs import importable
from pytest_derail.ranks.process_group import leave_process_group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

OF_PYTEST = (pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception)
"""Exceptions that are no ``Exception``, and that cannot be pickled by their name."""

OWN_FILES = frozenset({__file__, importable.__file__})


@dataclass(frozen=True, slots=True)
class Raised:
    """Exception of a function.

    Attributes:
        summary: its type and message.
        text: its traceback.
        exception: the pickled exception; empty if it cannot be pickled, or would end the controller.
    """

    summary: str
    text: str
    exception: bytes


class _Outcome:
    """Exception of pytest, which is unpickled as the exception itself."""

    def __init__(self, error: BaseException) -> None:
        self._parts = (type(error).__name__, str(error))

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[str, str]]:
        return _exception_of_pytest, self._parts


def _exception_of_pytest(name: str, text: str) -> BaseException:
    return next(kind for kind in OF_PYTEST if kind.__name__ == name)(text)


def serve(ends: Sequence[Connection[Any, Any]]) -> None:
    """Call functions until the controller sends None or closes the connection.

    Args:
        ends: one connection for each rank.
    """
    rank = int(os.environ["RANK"])
    for number, end in enumerate(ends):
        if number != rank:
            end.close()
    line = ends[rank]
    line.send("ready")
    try:
        while (path := _receive(line)) is not None:
            line.send(_answer(Path(path)))
    except OSError:
        return  # the controller has exited
    finally:
        leave_process_group()


def _receive(line: Connection[Any, Any]) -> str | None:
    try:
        path: str | None = line.recv()
    except EOFError:
        return None
    return path


def _answer(path: Path) -> str:
    """Make the call that a file describes, replace the file by its outcome, and return the kind of that."""
    kind, data = _outcome(path.read_bytes())
    path.write_bytes(data)
    return kind


def _outcome(call: bytes) -> tuple[str, bytes]:
    try:
        function, arguments = pickle.loads(call)
        value = function(*arguments)
    except (Exception, SystemExit, *OF_PYTEST) as error:
        return "raised", pickle.dumps(_raised(error))
    try:
        return "returned", pickle.dumps(value)
    except Exception as error:  # an exception of an object's own __reduce__ is the reason
        reason = TypeError(f"a {type(value).__name__} was returned, which cannot be pickled: {error}")
        return "raised", pickle.dumps(_raised(reason))


def _raised(error: BaseException) -> Raised:
    error.with_traceback(_without_own(error.__traceback__))
    summary = "".join(traceback.format_exception_only(error)).strip()
    return Raised(summary, "".join(traceback.format_exception(error)), _pickled(error))


def _without_own(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the function on."""
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename in OWN_FILES:
        trace = trace.tb_next
    return trace


def _pickled(error: BaseException) -> bytes:
    """Return the pickled exception without its traceback, or nothing if it does not survive a round trip."""
    if isinstance(error, SystemExit):
        return b""
    try:
        data = pickle.dumps(_Outcome(error) if isinstance(error, OF_PYTEST) else error)
        pickle.loads(data)
    except Exception:
        return b""
    return data


def pack(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """In the controller: return a call as bytes; the function is imported from its file, as pytest imported it."""
    return pickle.dumps((importable.RankFunction(function), arguments))
