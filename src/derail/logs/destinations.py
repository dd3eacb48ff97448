"""Where the console's bytes really go, one writer for each place: files at once, what may block in a thread."""

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
"""Bytes that wait for one place at most, apart from the block that filled it up; the rest waits in the log files."""

_STEP = 0.05
_TRANSIENT = (errno.ENOSPC, errno.EDQUOT)


class Destination:
    """The one writer for all that goes to one place: no line is ever torn by another one of ours.

    ``put`` never blocks: where a write may, it is left to one daemon thread, which begins only when the place takes
    what is to be written. A long line to a terminal that stops in the midst of it, or an object whose ``write`` does
    not return, can hold that thread; it then stays, as ``derail-console``, until the process ends, holding no lock.
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
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def greet(self, outlet: Outlet, patience: float) -> None:
        """Let what the host has printed so far go first; leave that to the thread if it takes too long."""
        if outlet.kind != "pipe":
            outlet.flush()
            return
        with self._changed:
            self._hand_over(b"", outlet)
            self._changed.wait_for(lambda: not self._queue, patience)

    def put(self, data: bytes, outlet: Outlet) -> None:
        """Take whole lines, to be written in the order in which they come."""
        with self._changed:
            if outlet.kind == "closed":
                self._fail(outlet, len(data), ValueError("it is closed"))
            elif outlet.kind in ("file", "memory"):
                self._write(data, outlet)
            else:
                self._hand_over(data, outlet)

    def drain(self, outlet: Outlet, *, idle: float, limit: float) -> None:
        """Wait until all of an outlet is written: ``idle`` seconds at most for each bit of progress, ``limit`` in all.
        What is left then is dropped and counted as missed."""
        waited = 0.0
        with self._changed:
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
        """How long it took until something more was written; None if nothing was for so long. Called with the lock.

        It is waited in short steps, of which each counts for no more than it should take: where this process, or the
        thread that writes, stands still on a busy machine, the place does not refuse anything.
        """
        taken, waited = self._taken, 0.0
        while waited < patience:
            step, begun = min(patience - waited, _STEP), SYSTEM_CLOCK.now()
            if self._changed.wait_for(lambda: self._taken != taken, step):
                return waited + min(step, SYSTEM_CLOCK.now() - begun)
            waited += step
        return None

    def stop(self, patience: float) -> bool:
        """End the thread. False if it is held in ``write(2)``: then it is still the one that writes here."""
        with self._changed:
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
        """Give up what is still queued of an outlet."""
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
        """Whom to tell that there is room again, if that is so since now."""
        if not self.full or self._pending > QUEUE_BYTES // 2:
            return []
        self.full = False
        return [outlet.on_room for outlet in self.outlets if outlet.on_room is not None]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stopping)
                if self._stopping or not self._queue:
                    self._thread = None
                    return
                item, at = self._queue[0], self._at
            self._write_some(item, at)

    def _write_some(self, item: tuple[bytes, Outlet], at: int) -> None:
        """Write a part of what is first in the queue as soon as the place takes it, unless it is given up before."""
        data, outlet = item
        unit = data[at:]
        try:
            unit = outlet.unit(data, at)
            has_room = False
            while not has_room:
                has_room = outlet.is_broken or outlet.has_room(len(unit))
                with self._changed:
                    if self._stopping or not self._queue or self._queue[0] is not item:
                        return
            self._write(unit, outlet)
        except Exception as error:  # the stream was closed, or is any object
            self._fail(outlet, len(unit), error)
        with self._changed:
            if self._queue and self._queue[0] is item:
                self._at += len(unit)
                self._pending -= len(unit)
                if self._at >= len(data):
                    self._queue.popleft()
                    self._at = 0
            else:  # it was given up meanwhile
                self._is_torn = unit[-1:] not in (b"", b"\n")
            self._taken += 1
            wakes = self._now_has_room()
            self._changed.notify_all()
        for wake in wakes:
            wake()

    def _write(self, data: bytes, outlet: Outlet) -> None:
        """Write, and take note of what comes of it; never raises."""
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
        """Count what was missed, and say it once. Only a full disk is tried again."""
        with self._changed:
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
    """The destinations of one process; a forked child has none of its parent's threads, and so begins anew."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.destinations: dict[tuple[Hashable, ...], Destination] = {}


_registry = _Registry()


def acquire(outlet: Outlet) -> Destination:
    """The writer for the place of an outlet, shared with everybody who writes there."""
    global _registry  # noqa: PLW0603
    if _registry.pid != os.getpid():
        _registry = _Registry()
    with _registry.lock:
        destination = _registry.destinations.setdefault(outlet.identity, Destination())
        destination.outlets.append(outlet)
        return destination


def release(outlet: Outlet, destination: Destination, *, patience: float) -> None:
    """Give it back; the last one ends its thread. One whose thread is held in ``write(2)`` stays for later users."""
    with _registry.lock:
        destination.outlets.remove(outlet)
        if not destination.outlets and destination.stop(patience):
            _registry.destinations.pop(outlet.identity, None)
