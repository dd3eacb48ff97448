"""Redirection of stdout or stderr of the running process to a file, at the level of descriptors 1 and 2."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DESCRIPTORS = {"stdout": 1, "stderr": 2}


@contextmanager
def redirect(std: str, to_file: str) -> Iterator[None]:
    """Redirect all output of this process, its C libraries and its children to a stream into a file.

    The file is overwritten if it exists; its directory must exist. Python's and C's buffers are flushed at entry and
    exit, so that each line goes to the file that was current when it was written. Descriptors are redirected by
    number: a ``sys.stdout`` that was replaced by an object in memory, as pytest does, is not affected.

    Raises:
        ValueError: if ``std`` is neither "stdout" nor "stderr".
    """
    if std not in _DESCRIPTORS:
        raise ValueError(f"unknown standard stream <{std}>, must be one of 'stdout', 'stderr'")
    number = _DESCRIPTORS[std]
    # appending: a log that is cut by copytruncate gets no hole, and two ranks that share it overwrite nothing
    to = os.open(to_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        before = _duplicate(number)
    except OSError:
        os.close(to)
        raise
    try:
        _flush(std)
        os.dup2(to, number)
        try:
            yield
        finally:
            _flush(std)
            if before is None:
                os.close(number)
            else:
                os.dup2(before, number)
    finally:
        os.close(to)
        if before is not None:
            os.close(before)


redirect_stdout = partial(redirect, "stdout")
redirect_stderr = partial(redirect, "stderr")


def get_std_cm(std_rd: str, redirect_fn: Callable[[str], AbstractContextManager[None]]) -> AbstractContextManager[None]:
    """Return ``redirect_fn(std_rd)``, or a context that does nothing if there is no file to redirect to."""
    return redirect_fn(std_rd) if std_rd else nullcontext()


def _duplicate(number: int) -> int | None:
    """Return a copy above the standard descriptors; None if that descriptor is closed."""
    import errno
    import fcntl

    try:
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError as error:
        if error.errno == errno.EBADF:
            return None
        raise


def _flush(std: str) -> None:
    """Flush the buffers of Python and of C; no damage by the body may prevent the restoration."""
    try:
        getattr(sys, std).flush()
    except Exception:
        pass  # closed, replaced or None
    try:
        import ctypes

        ctypes.CDLL(None).fflush(None)
    except Exception:
        pass  # no C library that could be called
