"""SIGCHLD must not be ignored while a job runs: the kernel would discard the exit statuses of the ranks."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from derail.platform.proc_status import read_status, signal_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_jobs = 0
_was_ignored = False


@contextmanager
def default_sigchld() -> Iterator[None]:
    """Set SIGCHLD to its default action while the body runs, if it was ignored; ignore it again after the last body.

    May be nested, and used from any thread and from several at the same time. A handler stays, and so does whatever
    other code sets in between.
    """
    global _jobs, _was_ignored  # noqa: PLW0603 - a disposition belongs to the process, so does the count
    with _lock:
        _jobs += 1
        if _jobs == 1:
            _was_ignored = is_ignored(signal.SIGCHLD)
            if _was_ignored:
                _set_disposition(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        with _lock:
            _jobs -= 1
            if _jobs == 0 and _was_ignored:
                _was_ignored = False
                if not _is_caught(signal.SIGCHLD):
                    _set_disposition(signal.SIGCHLD, signal.SIG_IGN)


def is_ignored(number: int) -> bool:
    """Return whether a signal is ignored: according to the kernel where it can be queried, else to Python."""
    mask = signal_mask(read_status("self"), "SigIgn")  # also correct for changes by C code without Python
    if mask is None:
        return signal.getsignal(number) is signal.SIG_IGN
    return bool(mask >> (number - 1) & 1)


def _is_caught(number: int) -> bool:
    mask = signal_mask(read_status("self"), "SigCgt")
    if mask is None:
        return callable(signal.getsignal(number))
    return bool(mask >> (number - 1) & 1)


def _set_disposition(number: int, disposition: signal.Handlers) -> None:
    """Set a disposition by libc.

    ``signal.signal`` refuses in any thread but the main one. ``getsignal`` has to return the same as before at the
    end, in whatever order the threads begin and end.
    """
    import ctypes

    libc_signal = ctypes.CDLL(None).signal
    libc_signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc_signal.restype = ctypes.c_void_p
    libc_signal(int(number), int(disposition))
