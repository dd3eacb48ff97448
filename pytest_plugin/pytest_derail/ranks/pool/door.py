"""TCP door through which ranks that another launcher has started reach the controller.

A rank proves that it knows the secret of this door, which it got in its environment, and the controller proves the
same, before either sends anything else; nothing is unpickled before that. A connection that says nothing, or too much,
is closed, and there is a limit on those that have not proved anything.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import selectors
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Self

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOOR_ENV = "DERAIL_DOOR"
"""Address and secret of the door, for the ranks: ``host port secret``."""

NONCE_BYTES = PROOF_BYTES = 32
MOST_BYTES = 4096
"""Maximum size of what a rank says of itself."""
MOST_STRANGERS = 64
"""Connections without a proof that are kept open; the oldest is closed for a new one."""
PROOF_SECONDS = 10.0
"""Seconds for a connection to prove that it knows the secret, and to say which rank it is."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Rank that has come through the door.

    Attributes:
        end: the connection to it.
        rank: its number.
        world_size: the number of ranks according to its launcher.
        pid: its process, on its own machine.
        is_here: whether it shares the file system and the process table of the controller.
    """

    end: Connection[Any, Any]
    rank: int
    world_size: int
    pid: int
    is_here: bool


@dataclass(slots=True)
class _Stranger:
    """Connection that has not proved anything yet."""

    socket: socket.socket
    deadline: float
    nonce: bytes = field(default_factory=lambda: os.urandom(NONCE_BYTES))
    received: bytearray = field(default_factory=bytearray)
    challenged: bool = False


class Door:
    """Listening end. Use it as a context manager.

    Args:
        host: the address to listen on; loopback unless ranks are on other machines.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._secret = os.urandom(32)
        self._listener: socket.socket | None = None
        self._strangers: dict[int, _Stranger] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server((self._host, 0), backlog=1024)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the door, and the connections that have not come through it."""
        for stranger in tuple(self._strangers.values()):
            self._dismiss(stranger)
        self._selector.close()
        if self._listener is not None:
            self._listener.close()

    @property
    def address(self) -> str:
        """Address and secret, as the value of ``DOOR_ENV``."""
        assert self._listener is not None, "the door is open"
        host, port, *_ = self._listener.getsockname()
        return f"{host} {port} {self._secret.hex()}"

    def arrivals(self, seconds: float, is_over: Callable[[], bool]) -> Iterator[Arrival]:
        """Yield ranks as they come, for at most ``seconds``, or until ``is_over`` returns true."""
        end = SYSTEM_CLOCK.now() + seconds
        while not is_over() and SYSTEM_CLOCK.now() < end:
            for key, _ in self._selector.select(min(0.1, end - SYSTEM_CLOCK.now())):
                if key.fileobj is self._listener:
                    self._welcome()
                elif key.fd in self._strangers:
                    arrival = self._hear(self._strangers[key.fd])
                    if arrival is not None:
                        yield arrival
            for stranger in [each for each in self._strangers.values() if SYSTEM_CLOCK.now() > each.deadline]:
                self._dismiss(stranger)

    def _welcome(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        if len(self._strangers) >= MOST_STRANGERS:
            self._dismiss(min(self._strangers.values(), key=lambda each: each.deadline))
        self._strangers[connection.fileno()] = _Stranger(connection, SYSTEM_CLOCK.now() + PROOF_SECONDS)
        self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, stranger: _Stranger) -> Arrival | None:
        """Take the next bytes of a stranger; return the rank if that completes its proof."""
        try:
            data = stranger.socket.recv(MOST_BYTES)
            stranger.received += data
            if not data or len(stranger.received) > NONCE_BYTES + PROOF_BYTES + MOST_BYTES:
                self._dismiss(stranger)
                return None
            theirs, rest = bytes(stranger.received[:NONCE_BYTES]), bytes(stranger.received[NONCE_BYTES:])
            if not stranger.challenged and len(theirs) == NONCE_BYTES:
                stranger.challenged = True
                stranger.socket.send(stranger.nonce + proof(self._secret, b"controller", theirs, stranger.nonce))
            given, said = rest[:PROOF_BYTES], rest[PROOF_BYTES:]
            if len(given) < PROOF_BYTES:
                return None
            if not hmac.compare_digest(given, proof(self._secret, b"rank", theirs, stranger.nonce)):
                self._dismiss(stranger)
                return None
            return self._introduced(stranger, said) if said.endswith(b"\n") else None
        except BlockingIOError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            self._dismiss(stranger)
            return None

    def _introduced(self, stranger: _Stranger, said: bytes) -> Arrival:
        facts = json.loads(said)
        rank, world_size, pid, machine = (
            int(facts["rank"]),
            int(facts["world_size"]),
            int(facts["pid"]),
            facts["machine"],
        )
        self._forget(stranger)
        stranger.socket.setblocking(True)
        return Arrival(Connection(stranger.socket.detach()), rank, world_size, pid, machine == this_machine())

    def _forget(self, stranger: _Stranger) -> None:
        self._selector.unregister(stranger.socket)
        del self._strangers[stranger.socket.fileno()]

    def _dismiss(self, stranger: _Stranger) -> None:
        self._forget(stranger)
        stranger.socket.close()


def proof(secret: bytes, who: bytes, rank_nonce: bytes, controller_nonce: bytes) -> bytes:
    """Return the proof that one end knows the secret, for these two nonces only."""
    return hmac.digest(secret, who + rank_nonce + controller_nonce, hashlib.sha256)


def enter(address: str, rank: int, world_size: int) -> Connection[Any, Any]:
    """In a rank: connect to the door, and prove that it is one of the ranks.

    Raises:
        OSError: if the controller cannot be reached, or does not know the secret.
        ValueError: if ``address`` is no address of a door.
    """
    host, port, secret = address.split(" ")
    with ExitStack() as undo:
        connection = undo.enter_context(socket.create_connection((host, int(port)), timeout=PROOF_SECONDS))
        nonce = os.urandom(NONCE_BYTES)
        connection.sendall(nonce)
        answer = b""
        while len(answer) < NONCE_BYTES + PROOF_BYTES:
            part = connection.recv(NONCE_BYTES + PROOF_BYTES - len(answer))
            if not part:
                raise ConnectionError(f"{host}:{port} closed the connection; expected the controller of these tests")
            answer += part
        theirs, given = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
        key = bytes.fromhex(secret)
        if not hmac.compare_digest(given, proof(key, b"controller", nonce, theirs)):
            raise ConnectionError(f"{host}:{port} does not know the secret of the controller of these tests")
        facts = {"rank": rank, "world_size": world_size, "pid": os.getpid(), "machine": this_machine()}
        connection.sendall(proof(key, b"rank", nonce, theirs) + json.dumps(facts).encode() + b"\n")
        connection.settimeout(None)
        undo.pop_all()
    return Connection(connection.detach())


def this_machine() -> str:
    """Return a text that is the same for processes with one process table, and for no others."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')} {os.readlink('/proc/self/ns/mnt')}"
    except OSError:
        return f"{socket.gethostname()} {os.getuid()}"
