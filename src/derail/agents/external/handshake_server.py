"""Where ranks of an external agent introduce themselves, and report which signals reach their programs.

The other side is faults/inrank/handshake.py. Only processes of this user can connect, and they must know the secret of
the job. Work for connections is bounded: a peer that says nothing is dropped, and so is the oldest of too many.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.handshake import HandshakeListener, peer, proves

if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import Callable

    from derail.platform.handshake import Endpoint
    from derail.supervise.loop import Loop

    Answer: TypeAlias = Callable[["Visitor", dict[str, object], int], dict[str, object]]

PATIENCE = 10.0
"""Seconds that a peer has to introduce itself."""
MOST = 512
"""Connections at a time that have not introduced themselves yet."""
LONGEST = 4 << 20
"""Bytes of an introduction: a command line may have 2 MiB, and JSON makes it longer."""
ANSWER_SECONDS = 5.0
"""Seconds that a peer has to take its answer."""
AGAIN = 0.1
"""Seconds until the next attempt to accept, when no descriptor was left."""


class Door:
    """Listens for ranks, and has each one answered that proves to belong to the job.

    Args:
        loop: whose thread all this happens in.
        answer: returns the answer for a visitor: called with the visitor, its introduction, and the pid that the
            kernel names.
    """

    def __init__(self, loop: Loop, answer: Answer) -> None:
        self._loop = loop
        self._answer = answer
        self._listener = HandshakeListener()
        self._is_open = False
        self._visitors: list[Visitor] = []

    def open(self, parent: os.PathLike[str] | None = None) -> str:
        """Listen, in a private directory below ``parent``; the endpoint as text, which is a secret of the job.

        Raises:
            OSError: if there is no descriptor left, or no directory can be made.
        """
        self._listener.open(parent)
        self._is_open = True
        self._loop.add_reader(self._listener.fileno(), self._accept)
        return str(self._listener.endpoint)

    def close(self) -> None:
        """Stop listening, and close all connections."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for visitor in self._visitors:
            visitor.leave()

    def _accept(self) -> None:
        try:
            connection = self._listener.accept()
        except OSError:  # no descriptor is left: make room, or wait until there is some
            if not self._drop_oldest():
                self._pause()
            return
        if connection is None:
            return
        connection.setblocking(False)
        self._visitors = [visitor for visitor in self._visitors if not visitor.has_left]
        if sum(not visitor.introduced for visitor in self._visitors) >= MOST:
            self._drop_oldest()
        visitor = Visitor(self._loop, connection, self._answer, self._listener.endpoint)
        self._visitors.append(visitor)
        self._loop.add_reader(connection.fileno(), visitor.hear)
        self._loop.call_at(SYSTEM_CLOCK.now() + PATIENCE, visitor.leave_unless_introduced)

    def _drop_oldest(self) -> bool:
        """Close the oldest connection that has not introduced itself; whether there was one."""
        silent = next((each for each in self._visitors if not (each.introduced or each.has_left)), None)
        if silent is not None:
            silent.leave()
        return silent is not None

    def _pause(self) -> None:
        """Accept nothing for a moment: the waiting peer would wake the loop all the time."""
        fd = self._listener.fileno()
        self._loop.remove_reader(fd)

        def again() -> None:
            if self._is_open:
                self._loop.add_reader(fd, self._accept)

        self._loop.call_at(SYSTEM_CLOCK.now() + AGAIN, again)


class Visitor:
    """One process that has connected.

    Attributes:
        tell: called with the signals that reach it; None if they do not count.
        introduced: whether it has proved to belong to the job.
    """

    def __init__(self, loop: Loop, connection: socket.socket, answer: Answer, endpoint: Endpoint) -> None:
        self.tell: Callable[[bytes], None] | None = None
        self.introduced = False
        self._loop = loop
        self._connection: socket.socket | None = connection
        self._answer = answer
        self._endpoint = endpoint
        self._received = bytearray()

    @property
    def has_left(self) -> bool:
        """Whether the connection is closed."""
        return self._connection is None

    def hear(self) -> None:
        """Read what it sends: first its introduction, one line; then signals, one byte each; nothing after its end."""
        while self._connection is not None:
            try:
                data = self._connection.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.leave()
            elif self.introduced:
                self._pass_on(data)
            else:
                self._read_introduction(data)

    def send(self, data: bytes) -> None:
        """Send it a few bytes after its introduction; nothing happens if it has left."""
        if self._connection is not None:
            with suppress(OSError):  # it has ended, or does not read
                self._connection.send(data)

    def leave(self) -> None:
        """Close the connection. Idempotent."""
        connection, self._connection = self._connection, None
        self._received.clear()
        if connection is not None:
            self._loop.remove_reader(connection.fileno())
            connection.close()

    def leave_unless_introduced(self) -> None:
        """Close the connection of a peer that has not introduced itself in time."""
        if not self.introduced:
            self.leave()

    def _pass_on(self, signals: bytes) -> None:
        if self.tell is not None:
            self.tell(signals)

    def _read_introduction(self, data: bytes) -> None:
        end = data.find(b"\n")
        self._received += data if end < 0 else data[:end]
        if end < 0 and len(self._received) <= LONGEST:
            return
        if end < 0 or not self._reply(bytes(self._received)):
            self.leave()
            return
        self._received.clear()
        if rest := data[end + 1 :]:
            self._pass_on(rest)

    def _reply(self, line: bytes) -> bool:
        """Answer an introduction; whether the connection is kept."""
        assert self._connection is not None
        secret, _, told = line.partition(b" ")
        if not proves(secret.decode(errors="replace"), self._endpoint.call):
            return False
        self.introduced = True
        try:
            introduction = json.loads(told)
            if not isinstance(introduction, dict):
                return False
            answer = self._answer(self, introduction, peer(self._connection)[0])
            self._connection.settimeout(ANSWER_SECONDS)
            self._connection.sendall(f"{self._endpoint.reply} {json.dumps(answer)}\n".encode())
            self._connection.setblocking(False)
        except (OSError, ValueError, RecursionError):  # it has ended, or sends no introduction
            return False
        return self.tell is not None
