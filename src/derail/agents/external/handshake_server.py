"""Server of the handshake: ranks of an external agent report who they are, and which signals reach their programs.

The other end is faults/inrank/handshake.py. Only processes of this user can connect, and they must have the secret of
the job. Work for connections is bounded: a silent peer is dropped, and so is the oldest of too many.
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
"""Timeout in seconds of a peer's introduction."""
MOST = 512
"""Maximum number of concurrent connections without an introduction."""
LONGEST = 4 << 20
"""Maximum bytes of an introduction: a command line may have 2 MiB, and JSON makes it longer."""
ANSWER_SECONDS = 5.0
"""Timeout in seconds of sending the answer to a peer."""
AGAIN = 0.1
"""Seconds until the next attempt to accept when the process is out of descriptors."""


class HandshakeServer:
    """Listener for ranks, which answers each peer that proves to belong to the job.

    Args:
        loop: the loop, with the thread in which everything runs.
        answer: returns the answer for a visitor: called with the visitor, its introduction, and the pid from the
            kernel.
    """

    def __init__(self, loop: Loop, answer: Answer) -> None:
        self._loop = loop
        self._answer = answer
        self._listener = HandshakeListener()
        self._is_open = False
        self._visitors: list[Visitor] = []

    def open(self, parent: os.PathLike[str] | None = None) -> str:
        """Listen in a private directory below ``parent``, and return the endpoint as text, a secret of the job.

        Raises:
            OSError: if no descriptor is left, or no directory can be made.
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
        except OSError:  # no descriptor is left: free one, or wait
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
        """Close the oldest connection without an introduction, and return whether there was one."""
        silent = next((each for each in self._visitors if not (each.introduced or each.has_left)), None)
        if silent is not None:
            silent.leave()
        return silent is not None

    def _pause(self) -> None:
        """Pause accepting for a moment: otherwise the waiting peer would keep waking the loop."""
        fd = self._listener.fileno()
        self._loop.remove_reader(fd)

        def again() -> None:
            if self._is_open:
                self._loop.add_reader(fd, self._accept)

        self._loop.call_at(SYSTEM_CLOCK.now() + AGAIN, again)


class Visitor:
    """Process that has connected.

    Attributes:
        tell: called with the signals that it reports; None if they do not count.
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
        """Read its data: first its introduction, one line; then signals, one byte each; close at its end."""
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
        """Send it a few bytes after its introduction; do nothing if it has left."""
        if self._connection is not None:
            with suppress(OSError):  # the peer has ended, or does not read
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
        """Answer an introduction, and return whether to keep the connection."""
        assert self._connection is not None
        secret, _, text = line.partition(b" ")
        if not proves(secret.decode(errors="replace"), self._endpoint.call):
            return False
        self.introduced = True
        try:
            introduction = json.loads(text)
            if not isinstance(introduction, dict):
                return False
            answer = self._answer(self, introduction, peer(self._connection)[0])
            self._connection.settimeout(ANSWER_SECONDS)
            self._connection.sendall(f"{self._endpoint.reply} {json.dumps(answer)}\n".encode())
            self._connection.setblocking(False)
        except (OSError, ValueError, RecursionError):  # the peer has ended, or its introduction is invalid
            return False
        return self.tell is not None
