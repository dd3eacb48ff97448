"""TCP proxy in its own thread, which disturbs the traffic and counts each disturbance.

The reasons are in docs/adr/own-mechanisms.md.
"""

from __future__ import annotations

import random
import selectors
import socket
import struct
import threading
from collections import Counter, deque
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

from derail.faults.mechanisms.sockets import are_own
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST = 65536
MOST_WAITING = 256
MOST_AT_ONCE = 256  # connections accepted per iteration
RETRY, PATIENCE = 0.05, 120.0
"""Seconds between two attempts to connect to the target, and before the proxy gives up."""


@dataclass(frozen=True, slots=True)
class Spoiling:
    """Settings of the disturbances; 0, or -1 for byte counts, means off.

    Attributes:
        latency: delay of all data in seconds.
        jitter: maximum further delay in seconds, chosen at random for each piece.
        bandwidth: bytes per second in each direction.
        slice: maximum bytes to pass on at a time.
        black_hole: whether all data is dropped while connections stay open.
        half_open: the direction to drop if only one is dropped: "to_rank" or "from_rank".
        reset_after: bytes after which a connection is reset, both directions together.
        close_after: bytes after which a connection is closed, both directions together.
        refuse: the number of connections to reset before any data passes.
        seed: the seed of the jitter.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: int = 0
    slice: int = 0
    black_hole: bool = False
    half_open: str = "no"
    reset_after: int = -1
    close_after: int = -1
    refuse: int = 0
    seed: int = 0

    def wanted(self) -> tuple[str, ...]:
        """Return the names of the settings that are on."""
        return tuple(
            field.name for field in fields(self) if field.name != "seed" and getattr(self, field.name) != field.default
        )


class _Way:
    """One direction of one connection, with the data that is read and not yet passed on."""

    def __init__(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        self.source, self.target, self.direction = source, target, direction
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.last_due = 0.0
        self.at_end = False
        self.ended = False


def _ways(near: socket.socket, far: socket.socket) -> tuple[_Way, _Way]:
    return _Way(near, far, "from_rank"), _Way(far, near, "to_rank")


class _Link:
    """Accepted connection with its connection to the target."""

    def __init__(self, near: socket.socket, far: socket.socket, since: float) -> None:
        self.near, self.far = near, far
        self.ways = _ways(near, far)
        self.connected = False
        self.retry_at = since
        self.since = since
        self.passed = 0


class Proxy:
    """Proxy from a port of the loopback to another address. Only its own thread touches connections.

    Attributes:
        done: the count of each disturbance (bytes for ``black_hole``), and of ``connections`` and ``bytes``.
        broken: the error that ended the thread early; empty if there was none.
    """

    def __init__(self, port: int, target: tuple[str, int], spoiling: Spoiling) -> None:
        self.port, self.target, self.spoiling = port, target, spoiling
        self.done: Counter[str] = Counter()
        self.broken = ""
        self._random = random.Random(spoiling.seed)
        self._links: list[_Link] = []
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None

    def start(self, listener: socket.socket | None = None) -> None:
        """Listen, unless a listener is given, and serve in a thread.

        Raises:
            OSError: if another process has the port.
        """
        self._listener = listener or socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self._wake, woken = socket.socketpair()
        self._thread = threading.Thread(
            target=self._serve, args=(self._listener, woken), name="derail-proxy", daemon=True
        )
        start_thread(self._thread)

    def stop(self) -> None:
        """Close everything, and join the thread, which itself waits for no process. Idempotent."""
        if self._wake is not None and self._thread is not None:
            self._wake.close()
            self._thread.join()
            self._wake = None

    def _serve(self, listener: socket.socket, woken: socket.socket) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                self._loop(selector, listener, woken)
        except Exception as error:  # a thread has no caller to raise to; readers of the counts check ``broken``
            self.broken = f"{type(error).__name__}: {error}"
        finally:
            for each in [listener, woken, *(end for link in self._links for end in (link.near, link.far))]:
                each.close()

    def _loop(self, selector: selectors.BaseSelector, listener: socket.socket, woken: socket.socket) -> None:
        while True:
            for key in list(selector.get_map().values()):
                selector.unregister(key.fileobj)
            selector.register(woken, selectors.EVENT_READ, None)
            selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
            now = SYSTEM_CLOCK.now()
            until = [self._interest(selector, link, now) for link in self._links]
            pause = min((at - now for at in until if at is not None), default=None)
            ready = selector.select(None if pause is None else max(0.0, pause))
            for key, _ in ready:
                if key.data is None:
                    return
                key.data()
            for link in list(self._links):
                self._move(link, SYSTEM_CLOCK.now())

    def _interest(self, selector: selectors.BaseSelector, link: _Link, now: float) -> float | None:
        """Register the events that a link waits for, and return the time of its next deadline, if any."""
        if not link.connected:
            return link.retry_at
        until = []
        wanted: dict[socket.socket, int] = {}
        for way in link.ways:
            if not way.at_end and len(way.waiting) < MOST_WAITING:
                wanted[way.source] = wanted.get(way.source, 0) | selectors.EVENT_READ
            if way.waiting and way.waiting[0][0] <= now:
                wanted[way.target] = wanted.get(way.target, 0) | selectors.EVENT_WRITE
            elif way.waiting:
                until.append(way.waiting[0][0])
        for end, events in wanted.items():
            selector.register(end, events, _nothing)
        return min(until, default=None)

    def _accept(self, listener: socket.socket) -> None:
        """Accept all waiting connections, except those of other users.

        A connection of another user would be counted and use up a disturbance that is meant for the rank. One read of
        the kernel's table serves them all.
        """
        came: list[socket.socket] = []
        while len(came) < MOST_AT_ONCE:
            try:
                came.append(listener.accept()[0])
            except OSError:
                break
        for near, own in zip(came, are_own(came) if came else (), strict=True):
            if own is False:
                near.close()
            else:
                self._take(near, is_known=bool(own))

    def _take(self, near: socket.socket, *, is_known: bool) -> None:
        self.done["connections"] += is_known
        if is_known and self.done["refuse"] < self.spoiling.refuse:
            self.done["refuse"] += 1
            _reset(near)
            return
        near.setblocking(False)
        self._links.append(_Link(near, socket.socket(), SYSTEM_CLOCK.now()))

    def _move(self, link: _Link, now: float) -> None:
        if not link.connected:
            self._connect(link, now)
            return
        try:
            for way in link.ways:
                self._read(way, now)
                if not self._write(link, way, now):
                    return
        except OSError:  # one end is gone: drop the other as well
            self._drop(link, _reset)
            return
        if all(way.ended for way in link.ways):
            self._drop(link, socket.socket.close)

    def _connect(self, link: _Link, now: float) -> None:
        if now < link.retry_at:
            return
        try:
            link.far.close()
            link.far = socket.create_connection(self.target, timeout=1.0)  # loopback, or the host name of a store
        except OSError:
            link.retry_at = now + RETRY
            if now - link.since > PATIENCE:
                self._drop(link, _reset)
            return
        for end in (link.near, link.far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.ways = _ways(link.near, link.far)
        link.connected = True

    def _read(self, way: _Way, now: float) -> None:
        if way.at_end or len(way.waiting) >= MOST_WAITING:
            return
        try:
            data = way.source.recv(LARGEST)
        except BlockingIOError:
            return
        if not data:
            way.at_end = True
        elif self._swallows(way):
            self.done["black_hole" if self.spoiling.black_hole else "half_open"] += len(data)
        else:
            self._queue(way, data, now)

    def _swallows(self, way: _Way) -> bool:
        return self.spoiling.black_hole or self.spoiling.half_open == way.direction

    def _queue(self, way: _Way, data: bytes, now: float) -> None:
        plan = self.spoiling
        size = plan.slice or len(data)
        if plan.bandwidth:
            size = min(size, max(1, plan.bandwidth // 20))  # a steady flow rather than one late burst
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            late = plan.latency + plan.jitter * self._random.random()
            due = max(now + late, way.last_due)
            if plan.bandwidth:
                due = max(due, max(now, way.last_due) + len(piece) / plan.bandwidth)
            for name in ("latency", "jitter", "bandwidth", "slice"):
                self.done[name] += 1 if getattr(plan, name) and (name != "slice" or len(data) > plan.slice) else 0
            way.last_due = due
            way.waiting.append((due, piece))

    def _write(self, link: _Link, way: _Way, now: float) -> bool:
        """Pass on the data that is due, and return False if that ended the connection."""
        while way.waiting and way.waiting[0][0] <= now:
            due, piece = way.waiting.popleft()
            room, ending = self._room(link)
            try:
                sent = way.target.send(piece[:room]) if room else 0
            except BlockingIOError:
                way.waiting.appendleft((due, piece))
                return True
            link.passed += sent
            self.done["bytes"] += sent
            if ending and sent == room:
                self.done[ending] += 1
                self._drop(link, _reset if ending == "reset_after" else socket.socket.close)
                return False
            if sent < len(piece):
                way.waiting.appendleft((due, piece[sent:]))
        if way.at_end and not way.waiting and not way.ended and not self._swallows(way):
            way.target.shutdown(socket.SHUT_WR)
            way.ended = True
        return True

    def _room(self, link: _Link) -> tuple[int, str]:
        """Return how many more bytes may pass, and the disturbance that follows them."""
        limits = [(getattr(self.spoiling, name), name) for name in ("reset_after", "close_after")]
        allowed = [(limit - link.passed, name) for limit, name in limits if limit >= 0]
        room, name = min(allowed, default=(LARGEST, ""))
        return max(0, room), name

    def _drop(self, link: _Link, how: Callable[[socket.socket], None]) -> None:
        self._links.remove(link)
        for end in (link.near, link.far):
            how(end)


def _nothing() -> None:
    """Do nothing: the main loop checks the ready ends together with all others."""


def _reset(end: socket.socket) -> None:
    """Close so that the peer receives a RST."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # the socket was never connected
    end.close()
