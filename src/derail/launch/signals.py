"""Signal handlers of the launcher: set while jobs run, restored when the last job is over.

The handlers belong to the process, so there is one registry for all of its jobs. The first signal of a job raises
``SignalException`` in the main thread, as torch's launcher does. A further one kills the ranks at once instead of
interrupting the clean-up. A signal that was ignored (``nohup``) stays ignored.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

DEFAULT_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT"
"""Signals that end a job, where TORCHELASTIC_SIGNALS_TO_HANDLE does not name others."""


class SignalException(Exception):  # noqa: N818 - torch's name
    """A signal that asks the launcher to end; ``sigval`` is its number.

    Raised in the main thread, out of ``start`` or ``wait`` or wherever that thread is. The caller then closes the job,
    usually with ``close(e.sigval)``.
    """

    def __init__(self, msg: str, sigval: signal.Signals) -> None:
        super().__init__(msg)
        self.sigval = sigval


class Guarded(Protocol):
    """Interface of a job to the signal handlers."""

    @property
    def is_over(self) -> bool:
        """Whether the job is done: signals no longer concern it."""
        ...

    is_closing: bool
    """Whether an earlier signal or ``close`` has already asked it to end."""

    def was_asked(self) -> None:
        """Note that the first signal is about to be raised: the next one escalates, even before ``close`` is called."""
        ...

    def escalate(self, number: int) -> None:
        """End the job at once."""
        ...

    def forward(self, number: int) -> None:
        """Pass a signal on to the ranks."""
        ...


def signals_to_handle() -> tuple[signal.Signals, ...]:
    """Return the signals of TORCHELASTIC_SIGNALS_TO_HANDLE; log and leave out names that this platform lacks."""
    named = os.environ.get("TORCHELASTIC_SIGNALS_TO_HANDLE", DEFAULT_SIGNALS)
    chosen = []
    for name in filter(None, (part.strip() for part in named.split(","))):
        try:
            chosen.append(signal.Signals[name])
        except KeyError:
            import logging

            logging.getLogger("derail").warning(
                "TORCHELASTIC_SIGNALS_TO_HANDLE names %r, which is no signal here; it is left out", name
            )
    return tuple(chosen)


class _Registry:
    """The jobs that handle signals, and the handlers that were set before theirs.

    Attributes:
        exception: class to raise: ``SignalException``, or a subclass that an embedding caller catches as well.
    """

    def __init__(self) -> None:
        self.exception: type[SignalException] = SignalException
        self._lock = threading.RLock()
        self._ending: dict[int, list[Guarded]] = {}
        self._forwarding: dict[int, list[Guarded]] = {}
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def add(self, job: Guarded, *, ending: Iterable[int], forwarding: Iterable[int]) -> None:
        """Set handlers for a job. Only the main thread may set handlers; in another thread this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        with self._lock:
            self._tidy()
            for table, numbers in ((self._ending, ending), (self._forwarding, forwarding)):
                for number in numbers:
                    if self._install(number):
                        table.setdefault(number, []).append(job)

    def remove(self, job: Guarded) -> None:
        """Forget a job; restore handlers that no job needs any more, if this is the main thread."""
        with self._lock:
            for table in (self._ending, self._forwarding):
                for jobs in table.values():
                    while job in jobs:
                        jobs.remove(job)
            self._tidy()

    def _install(self, number: int) -> bool:
        if number in self._before and signal.getsignal(number) == self._handle:
            return True
        before = signal.getsignal(number)
        # None: set by C code, which could not be restored. SIG_IGN: other code has this signal ignored on purpose.
        if before is None or before == signal.SIG_IGN:
            return False
        try:
            signal.signal(number, self._handle)
        except (OSError, ValueError):  # SIGKILL and SIGSTOP cannot be handled
            return False
        self._before[number] = before
        return True

    def _tidy(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # the next job that begins or ends in the main thread does it; until then `_handle` delegates
        for number in list(self._before):
            if not self._jobs(self._ending, number) and not self._jobs(self._forwarding, number):
                if signal.getsignal(number) == self._handle:  # else other code has set a newer one, which stays
                    signal.signal(number, self._before[number])
                del self._before[number]  # last: an earlier signal still finds the handler from before our jobs

    @staticmethod
    def _jobs(table: dict[int, list[Guarded]], number: int) -> list[Guarded]:
        return [job for job in table.get(number, ()) if not job.is_over]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        forwarding, ending = self._jobs(self._forwarding, number), self._jobs(self._ending, number)
        for job in forwarding:
            job.forward(number)
        for job in ending:
            if job.is_closing:
                job.escalate(number)
        fresh = [job for job in ending if not job.is_closing]
        for job in fresh:
            job.was_asked()
        if fresh:
            sigval = signal.Signals(number)
            raise self.exception(f"process {os.getpid()} got {sigval.name}; the job is to end", sigval=sigval)
        if forwarding or ending:
            return
        for job in self._ending.get(number, ()):
            if job.is_closing:  # it was ending when the signal came; its end has not reached this thread yet
                job.is_closing = False  # the next signal does not concern it
                return
        self._as_before(number, frame)

    def _as_before(self, number: int, frame: FrameType | None) -> None:
        """Do what would have happened without derail: no job handles the signal any more."""
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


REGISTRY = _Registry()
