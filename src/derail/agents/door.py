"""Where ranks of a foreign supervisor introduce themselves, and go on telling which signals reach their programs.

The other side is faults/inrank/meeting.py.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.supervise.loop import Loop

    Answer: TypeAlias = Callable[["Visitor", dict[str, object], int], dict[str, object]]

_PEER = struct.Struct("3i")  # struct ucred, unix(7)


class Door:
    """Listens at an abstract socket, and has each visitor answered.

    Args:
        loop: whose thread all this happens in.
        answer: says what a visitor is told: called with the visitor, what it said, and the pid that the kernel says.
    """

    def __init__(self, loop: Loop, answer: Answer) -> None:
        self._loop = loop
        self._answer = answer
        self._listener: socket.socket | None = None
        self._visitors: list[Visitor] = []

    def open(self, name: str) -> None:
        """Listen.

        Raises:
            OSError: if there is no descriptor left, or somebody listens there already.
        """
        listener = self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"\0{name}")
        listener.listen(1024)
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Listen no more, and to nobody."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for visitor in self._visitors:
            visitor.leave()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        visitor = Visitor(self._loop, connection, self._answer)
        self._visitors.append(visitor)
        self._loop.add_reader(connection.fileno(), visitor.hear)


class Visitor:
    """One process that has come in.

    Attributes:
        tell: who hears of the signals that reach it; None if nobody does.
    """

    def __init__(self, loop: Loop, connection: socket.socket, answer: Answer) -> None:
        self.tell: Callable[[bytes], None] | None = None
        self._loop = loop
        self._connection: socket.socket | None = connection
        self._answer = answer
        self._answered = False

    def hear(self) -> None:
        """Take in what it says: first who it is, then signals; a process that has ended says nothing any more."""
        while self._connection is not None:
            try:
                said = self._connection.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if self._answered and said and self.tell is not None:
                self.tell(said)
            elif not self._reply(said):
                self.leave()

    def leave(self) -> None:
        """Do not listen to it any more. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.remove_reader(connection.fileno())
            connection.close()

    def _reply(self, said: bytes) -> bool:
        """Answer who introduces itself; whether it is to be listened to further."""
        if self._answered or not said or self._connection is None:
            return False
        self._answered = True
        try:
            told = json.loads(said)
            peer = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            answer = self._answer(self, told, _PEER.unpack(peer)[0])
            self._connection.sendall(json.dumps(answer).encode() + b"\n")
        except (OSError, ValueError, AttributeError):  # it has ended, or is nobody of ours
            return False
        return self.tell is not None
