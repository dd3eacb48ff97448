"""Start a thread although signals may arrive."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
"""Signals that a thread causes by its own faults: those are never blocked."""


def block_signals() -> set[int]:
    """Block every signal in this thread but ``FAULTS``; return the mask that was there before."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)


def start_thread(thread: threading.Thread) -> None:
    """Start a thread, which has signals blocked; a signal that arrives meanwhile is handled when the thread runs.

    A handler that raises inside ``Thread.start`` makes it forget a thread that runs, or raise KeyError in place of the
    handler's exception. Blocking is enough unless another thread takes the signal: Python then runs the handler here.

    Raises:
        RuntimeError: if there is no thread left.
        BaseException: what a signal handler raises. The thread may run then.
    """
    mask = block_signals()
    try:
        thread.start()
    except KeyError as error:  # out of the clean-up of ``Thread.start``: the thread had removed itself from its list
        raise error.__context__ or error from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
