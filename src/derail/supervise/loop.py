"""The only place where a job blocks: one wait for descriptors, timers and a mailbox."""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.model.clock import Clock


class Timer:
    """An action at a time; ``cancel`` revokes it."""

    __slots__ = ("action", "at", "cancelled")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """Revoke the action. Idempotent."""
        self.cancelled = True


class Loop:
    """Event loop for descriptors, timers and posted actions, which run in one thread.

    Readable descriptors are served in the order in which they became readable, as far as the kernel reports it (epoll
    keeps that order): exits of ranks within one turn are noticed in their real order.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._selector: selectors.BaseSelector | None = None
        self._timers: list[tuple[float, int, Timer]] = []
        self._tie = itertools.count()
        self._mailbox: deque[Callable[[], None]] = deque()
        # Reentrant: a signal handler may post while the thread that it interrupted is posting.
        self._mailbox_lock = threading.RLock()
        self._closed = False
        self._wake_read = self._wake_write = -1

    def open(self) -> None:
        """Acquire the selector and the mailbox's descriptors.

        Raises:
            OSError: if the process has no descriptors left; nothing is held then.
        """
        selector = selectors.DefaultSelector()
        try:
            read, write = os.pipe()
        except OSError:
            selector.close()
            raise
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        selector.register(read, selectors.EVENT_READ, self._empty_pipe)
        with self._mailbox_lock:
            self._selector, self._wake_read, self._wake_write = selector, read, write

    def close(self) -> None:
        """Release all resources; posting does nothing from now on. Idempotent."""
        with self._mailbox_lock:
            selector, self._selector = self._selector, None
            self._closed = True
            if selector is None:
                return
            selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._mailbox.clear()

    def add_reader(self, fd: int, action: Callable[[], None]) -> None:
        """Run ``action`` in each turn in which ``fd`` is readable."""
        assert self._selector is not None, "the loop is not open"
        self._selector.register(fd, selectors.EVENT_READ, action)

    def remove_reader(self, fd: int) -> None:
        """Stop watching ``fd``. Idempotent."""
        if self._selector is not None:
            try:
                self._selector.unregister(fd)
            except (KeyError, ValueError):
                pass

    def call_at(self, at: float, action: Callable[[], None]) -> Timer:
        """Run ``action`` at ``at`` (monotonic seconds). Only from the loop's own thread."""
        timer = Timer(at, action)
        heapq.heappush(self._timers, (at, next(self._tie), timer))
        return timer

    def post(self, action: Callable[[], None]) -> bool:
        """Run ``action`` in the loop's thread in its next turn; from any thread, also before ``open``.

        Returns:
            False if the loop is closed.
        """
        with self._mailbox_lock:
            if self._closed:
                return False
            self._mailbox.append(action)
            if self._selector is not None:
                try:
                    os.write(self._wake_write, b"!")
                except BlockingIOError:
                    pass  # the pipe is full of wake-ups already
            return True

    def run_once(self, timeout: float | None) -> None:
        """Run one turn: wait at most ``timeout`` seconds (None: without limit), then run everything that is due."""
        assert self._selector is not None, "the loop is not open"
        for key, _ in self._selector.select(self._patience(timeout)):
            # An earlier action of this turn may have removed this descriptor.
            if self._selector is not None and self._selector.get_map().get(key.fd) is key:
                key.data()
        while self._timers and (self._timers[0][2].cancelled or self._timers[0][0] <= self._clock.now()):
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.action()
        for _ in range(len(self._mailbox)):
            self._mailbox.popleft()()

    @property
    def has_mail(self) -> bool:
        """Whether an action was posted that has not been run."""
        return bool(self._mailbox)

    def descriptors(self) -> tuple[int, ...]:
        """Return the loop's own descriptors, for a forked rank to close."""
        selector_fd = getattr(self._selector, "fileno", lambda: -1)()
        return tuple(fd for fd in (selector_fd, self._wake_read, self._wake_write) if fd >= 0)

    def _patience(self, timeout: float | None) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if self._mailbox:
            return 0
        if not self._timers:
            return timeout
        until = max(0.0, self._timers[0][0] - self._clock.now())
        return until if timeout is None else min(timeout, until)

    def _empty_pipe(self) -> None:
        try:
            os.read(self._wake_read, 65536)
        except BlockingIOError:
            pass
