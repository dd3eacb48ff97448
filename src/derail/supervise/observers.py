"""The observers of a job, and their operations on it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from derail.model.clock import Clock
    from derail.model.events import Event, Observer, Stream
    from derail.model.spec import RankSpec
    from derail.supervise.loop import Loop
    from derail.supervise.ranks import Ranks


class Control:
    """``JobControl`` over the ranks of a job. derail.model.events has the contract of each method.

    Args:
        specs: by rank.
        ranks: their processes.
        loop: of the job's thread.
        clock: that of the job.
        in_own_thread: whether the caller runs in that thread.
    """

    def __init__(
        self,
        specs: Mapping[int, RankSpec],
        ranks: Ranks,
        loop: Loop,
        clock: Clock,
        *,
        in_own_thread: Callable[[], bool],
    ) -> None:
        self._specs = specs
        self._ranks = ranks
        self._loop = loop
        self._clock = clock
        self._in_own_thread = in_own_thread

    @property
    def ranks(self) -> tuple[int, ...]:
        """The local ranks of the job."""
        return tuple(self._specs)

    def pid(self, rank: int) -> int | None:
        """Return the process of ``rank``, or None before its start."""
        handle = self._ranks.handles.get(rank)
        return None if handle is None else handle.pid

    def pidfd(self, rank: int) -> int | None:
        """Return the pidfd of ``rank``, owned by the job."""
        handle = self._ranks.handles.get(rank)
        return None if handle is None else handle.pidfd

    def is_alive(self, rank: int) -> bool:
        """Return whether ``rank`` was started and has not ended, according to the kernel now."""
        handle = self._ranks.handles.get(rank)
        return handle is not None and handle.peek() is None

    def send_signal(self, rank: int, signal: int, *, group: bool = False) -> bool:
        """Signal a rank or its group; return False if it had ended."""
        return self._ranks.signal(rank, signal, group=group)

    def error_file(self, rank: int) -> Path | None:
        """Return the path of the error file of ``rank``."""
        return self._specs[rank].error_file

    def log_file(self, rank: int, stream: Stream) -> Path | None:
        """Return the file to which a stream of ``rank`` is redirected."""
        streams = self._specs[rank].streams
        return streams.stdout if stream == "stdout" else streams.stderr

    def call_later(self, delay: float, action: Callable[[], None]) -> Callable[[], None]:
        """Run ``action`` in the job's thread after ``delay`` seconds."""
        assert self._in_own_thread(), "call_later belongs to the job's own thread; use post from elsewhere"
        return self._loop.call_at(self._clock.now() + delay, lambda: _run(action)).cancel

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the job's thread soon; from any thread."""
        self._loop.post(lambda: _run(action))


class Listeners:
    """The observers, called one after the other; one that raises is logged and not called again."""

    def __init__(self, observers: Sequence[Observer], control: Control) -> None:
        self._observers = list(observers)
        self._control = control
        self.want_lines = any(observer.wants_lines for observer in observers)

    @property
    def control(self) -> Control:
        """Their operations on the job."""
        return self._control

    def attach(self) -> None:
        """Pass the job's control to each observer, before the first rank is started."""
        for observer in self._observers.copy():
            if not guarded(observer.attach, self._control):
                self._observers.remove(observer)

    def tell(self, event: Event) -> None:
        """Pass ``event`` to each observer."""
        for observer in self._observers.copy():
            if not guarded(observer.observe, event):
                self._observers.remove(observer)


def _run(action: Callable[[], None]) -> None:
    guarded(action)


def guarded(action: Callable[..., None], *args: object) -> bool:
    """Call a function of an observer; an exception is logged and must not reach the supervision of the ranks."""
    try:
        action(*args)
    except Exception:
        import logging

        logging.getLogger("derail").exception("an observer of %s raised", threading.current_thread().name)
        return False
    return True
