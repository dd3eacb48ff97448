"""Threads and signals: masks while a thread starts another, and flags for a thread whose signal handlers raise."""

from __future__ import annotations

import _thread
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
"""Signals that a thread causes by its own faults: those are never blocked."""

_ALL_BUT_FAULTS = signal.valid_signals() - FAULTS

_unblocked = threading.local()

LOOK_SECONDS = 1.0
"""Seconds after which a wait looks at its flag again."""


class Flag:
    """Event for which a thread can wait although a signal handler may raise in it, at any point of the wait.

    In ``threading.Event.wait`` such an exception may leave the event's own lock held, so that the next wait, or the
    thread that sets it, waits for ever; or it is replaced by a RuntimeError. Here the lock only wakes a wait.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def is_set(self) -> bool:
        """Return whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Set it, from any thread."""
        self._is_set = True
        with suppress(RuntimeError):  # it was set before
            self._lock.release()

    def wait(self, seconds: float = float("inf")) -> bool:
        """Wait until it is set, for at most ``seconds``; return whether it is."""
        end = SYSTEM_CLOCK.now() + seconds
        while not self._is_set:
            left = min(LOOK_SECONDS, end - SYSTEM_CLOCK.now())
            if left <= 0:
                break
            if self._lock.acquire(timeout=left):
                with suppress(RuntimeError):
                    self._lock.release()  # for others that wait
        return self._is_set


def block_signals() -> set[int]:
    """Block every signal in this thread except ``FAULTS``; return the previous mask."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_BUT_FAULTS)


def start_thread(thread: threading.Thread) -> None:
    """Start a thread with blocked signals; a signal that arrives during the start is handled when the thread runs.

    A handler that raises inside ``Thread.start`` makes it forget a running thread, or raise KeyError instead of the
    handler's exception. Blocking is enough unless another thread takes the signal: then Python runs the handler here.

    Raises:
        RuntimeError: if there is no thread left.
        BaseException: the exception of a signal handler. The thread may run then.
    """
    mask = block_signals()
    try:
        thread.start()
    except KeyError as error:  # out of the clean-up of ``Thread.start``: the thread had removed itself from its list
        raise error.__context__ or error from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def unblocked_signals() -> Iterator[None]:
    """Clear this thread's signal mask while the body runs: a program inherits the mask at exec, and may never clear it.

    A pending signal stays blocked: it would be delivered to this process now. Nested in the same thread, this does
    nothing, not even a query: with 60 blocked signals each query takes 0.1 ms, because ``signal`` makes an enum member
    of each.
    """
    if getattr(_unblocked, "active", False):
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if blocked:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked & signal.sigpending())
    _unblocked.active = True
    try:
        yield
    finally:
        _unblocked.active = False
        if blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
