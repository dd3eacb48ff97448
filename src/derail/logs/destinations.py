"""Destinations of console output, with one writer each: files are written at once, others in a thread."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from derail.logs.outlet import Outlet

_log = logging.getLogger(__name__)

QUEUE_BYTES = 1 << 20
"""Bytes queued for one destination, not counting the block that filled the queue; the rest stays in the log files."""

_STEP = 0.05
_TRANSIENT = (errno.ENOSPC, errno.EDQUOT)


class Destination:
    """The only writer to one destination: no line is torn by another one of derail's.

    ``put`` never blocks: a write that may block is left to one daemon thread, which starts a write only when the
    destination accepts the data. A terminal that stops in the middle of a long line, or an object with a ``write`` that
    does not return, can block that thread. The thread then stays, as ``derail-console``, until the process ends,
    holding no lock.
    """

    def __init__(self) -> None:
        self.outlets: list[Outlet] = []
        self.floor: object = None
        self.full = False
        self._is_torn = False
        self._pending = 0
        self._taken = 0
        self._queue: deque[tuple[bytes, Outlet]] = deque()
        self._at = 0
        self._lock = threading.RLock()  # entering a Condition itself may leave it locked if a signal handler raises
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._stopping = False

    def greet(self, outlet: Outlet, patience: float) -> None:
        """Flush what the host has printed so far; leave that to the thread if it takes longer than ``patience``."""
        if outlet.kind != "pipe":
            outlet.flush()
            return
        with self._lock:
            self._hand_over(b"", outlet)
            self._changed.wait_for(lambda: not self._queue, patience)

    def put(self, data: bytes, outlet: Outlet) -> None:
        """Accept whole lines, to be written in the order of the calls."""
        with self._lock:
            if outlet.kind == "closed":
                self._fail(outlet, len(data), ValueError("it is closed"))
            elif outlet.kind in ("file", "memory"):
                self._write(data, outlet)
            else:
                self._hand_over(data, outlet)

    def drain(self, outlet: Outlet, *, idle: float, limit: float) -> None:
        """Wait until all output of an outlet is written, at most ``idle`` seconds without progress, ``limit`` in total.

        The remaining output is dropped and counted as missed.
        """
        waited = 0.0
        with self._lock:
            while any(own is outlet for _, own in self._queue):
                patience = min(idle, limit - waited)
                took = self._wait_for_progress(patience) if patience > 0 else None
                if took is None:
                    break
                waited += took
            outlet.on_room = None
            self._drop(outlet)
            wakes = self._now_has_room()
        for wake in wakes:
            wake()

    def _wait_for_progress(self, patience: float) -> float | None:
        """Return the seconds until more was written, or None if nothing was within ``patience``. Needs the lock.

        The wait is in short steps, and each counts at most its nominal time: while this process or the writing thread
        is stalled on a busy machine, the destination refuses nothing.
        """
        taken, waited = self._taken, 0.0
        while waited < patience:
            step, begun = min(patience - waited, _STEP), SYSTEM_CLOCK.now()
            if self._changed.wait_for(lambda: self._taken != taken, step):
                return waited + min(step, SYSTEM_CLOCK.now() - begun)
            waited += step
        return None

    def stop(self, patience: float) -> bool:
        """End the thread; return False if it is blocked in ``write(2)``: then it remains the only writer here."""
        with self._lock:
            self._stopping = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(patience)
        return thread is None or not thread.is_alive()

    def _hand_over(self, data: bytes, outlet: Outlet) -> None:
        self._stopping = False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="derail-console", daemon=True)
            start_thread(self._thread)
        self._queue.append((data, outlet))
        self._pending += len(data)
        self.full = self.full or self._pending >= QUEUE_BYTES
        self._changed.notify_all()

    def _drop(self, outlet: Outlet) -> None:
        """Give up the queued output of an outlet."""
        if self._queue and self._queue[0][1] is outlet and self._at:
            self._is_torn = self._queue[0][0][self._at - 1 : self._at] != b"\n"
            outlet.missed -= self._at
            self._pending += self._at
            self._at = 0
        for data, own in self._queue:
            if own is outlet:
                outlet.missed += len(data)
                self._pending -= len(data)
        self._queue = deque(item for item in self._queue if item[1] is not outlet)
        if isinstance(self.floor, tuple) and self.floor[0] is outlet:
            self.floor = None
            self._is_torn = True

    def _now_has_room(self) -> list[Callable[[], None]]:
        """Return the callbacks to call if there is room again only now."""
        if not self.full or self._pending > QUEUE_BYTES // 2:
            return []
        self.full = False
        return [outlet.on_room for outlet in self.outlets if outlet.on_room is not None]

    def _run(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._queue or self._stopping)
                if self._stopping or not self._queue:
                    self._thread = None
                    return
                item, at = self._queue[0], self._at
            self._write_some(item, at)

    def _write_some(self, item: tuple[bytes, Outlet], at: int) -> None:
        """Write a part of the first queue item once the destination accepts it, unless the item is dropped before."""
        data, outlet = item
        unit = data[at:]
        try:
            unit = outlet.unit(data, at)
            has_room = False
            while not has_room:
                has_room = outlet.is_broken or outlet.has_room(len(unit))
                with self._lock:
                    if self._stopping or not self._queue or self._queue[0] is not item:
                        return
            self._write(unit, outlet)
        except Exception as error:  # the stream was closed, or is any object
            self._fail(outlet, len(unit), error)
        with self._lock:
            if self._queue and self._queue[0] is item:
                self._at += len(unit)
                self._pending -= len(unit)
                if self._at >= len(data):
                    self._queue.popleft()
                    self._at = 0
            else:  # it was dropped during the write
                self._is_torn = unit[-1:] not in (b"", b"\n")
            self._taken += 1
            wakes = self._now_has_room()
            self._changed.notify_all()
        for wake in wakes:
            wake()

    def _write(self, data: bytes, outlet: Outlet) -> None:
        """Write, and record the result; never raises."""
        if outlet.is_broken:
            self._fail(outlet, len(data), None)
            return
        outlet.flush()
        if not data:
            return
        try:
            outlet.write(b"\n" + data if self._is_torn else data, lambda: not self._stopping)
            self._is_torn = False
        except Exception as error:  # whatever the object's write may raise
            self._fail(outlet, len(data), error)

    def _fail(self, outlet: Outlet, size: int, error: Exception | None) -> None:
        """Count missed bytes, and log the first failure. Only a full disk is retried."""
        with self._lock:
            is_first = outlet.missed == 0
            outlet.missed += size
            if error is None or outlet.is_broken:
                return
            outlet.is_broken = not (isinstance(error, OSError) and error.errno in _TRANSIENT)
            self._is_torn = True
        if is_first:
            why = str(error) or type(error).__name__
            _log.warning("the console takes no output of the job (%s); the log files have all of it", why)


class _Registry:
    """The destinations of one process; a forked child has none of its parent's threads and starts with none."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.destinations: dict[tuple[Hashable, ...], Destination] = {}


_registry = _Registry()


def acquire(outlet: Outlet) -> Destination:
    """Return the writer for the destination of an outlet, shared with all its users."""
    global _registry  # noqa: PLW0603
    if _registry.pid != os.getpid():
        _registry = _Registry()
    with _registry.lock:
        destination = _registry.destinations.setdefault(outlet.identity, Destination())
        destination.outlets.append(outlet)
        return destination


def release(outlet: Outlet, destination: Destination, *, patience: float) -> None:
    """Release a destination; the last user ends its thread. One blocked in ``write(2)`` stays for later users."""
    with _registry.lock:
        destination.outlets.remove(outlet)
        if not destination.outlets and destination.stop(patience):
            _registry.destinations.pop(outlet.identity, None)
