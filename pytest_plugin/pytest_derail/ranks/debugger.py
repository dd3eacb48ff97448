"""``--pdb`` for tests on ranks: the first rank that failed runs pdb, connected to the terminal of the pytest run.

The rank connects to a socket of the controller that only processes of this user can reach. Both ends prove that they
belong to the same test, because the debugger executes what it receives. The rank requests each line, so that it never
consumes a line meant for the next test. The time limit of the test is paused during debugging.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from typing import TYPE_CHECKING, Any, Self

import pytest

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.exits import is_readable
from derail.platform.handshake import Endpoint, HandshakeListener, connect, proves

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pytest_derail.ranks.notify import Bell
    from pytest_derail.ranks.result import Verdict

GO, ASK, QUIT = b"\x01", b"\x05", b"\x04"
CONNECT_SECONDS = 10.0
"""Seconds within which a rank that asked for the debugger must connect."""

PDB_OF_PYTEST = "pdbinvoke"
"""Name of pytest's own plugin, which opens pdb in the controller."""


class Debugger:
    """Controller end of the debugger: a context manager around the job. Without ``--pdb`` it does nothing.

    Attributes:
        address: the endpoint that ranks connect to, as text; empty without ``--pdb``.
        attached: the rank that was debugged.
        quits: whether the user has asked to end the session.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.address = ""
        self.attached: int | None = None
        self.quits = False
        self._config = config
        self._listener: HandshakeListener | None = None

    def __enter__(self) -> Self:
        """Open the listener."""
        if self._config.getoption("usepdb", default=False):
            self._listener = HandshakeListener().open()
            self.address = str(self._listener.endpoint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the listener: ranks that connect later, or wait for their turn, continue."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def attend(self, bell: Bell, show: Callable[[int], str]) -> float:
        """If a rank asks for the debugger, debug it until the user continues; return the seconds that this took.

        Args:
            bell: which ranks have asked.
            show: returns the text of a rank's failure.
        """
        rank = bell.first_to_debug
        if self._listener is None or rank is None:
            return 0.0
        begun = SYSTEM_CLOCK.now()
        connection = _accept(self._listener, begun + CONNECT_SECONDS)
        if connection is not None:
            with connection:
                self._look_into(rank, connection, show(rank), self._listener.endpoint)
        self.__exit__(None, None, None)
        return SYSTEM_CLOCK.now() - begun

    def _look_into(self, rank: int, connection: socket.socket, failure: str, endpoint: Endpoint) -> None:
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        terminal: Any = self._config.pluginmanager.getplugin("terminalreporter")
        if capture is not None:
            capture.suspend(in_=True)
        self._config.hook.pytest_enter_pdb(config=self._config, pdb=None)
        try:
            terminal.write("\n")
            terminal.write_sep(">", f"rank {rank}: traceback")
            terminal.write_line(failure)
            terminal.write_sep(">", f"rank {rank}: pdb")
            self.attached = rank
            connection.sendall(endpoint.reply.encode() + GO)
            self.quits = _bridge(connection)
        except OSError:
            terminal.write_line(f"rank {rank}: connection closed")
        finally:
            self._config.hook.pytest_leave_pdb(config=self._config, pdb=None)
            if capture is not None:
                capture.resume()

    def conclude(self, verdict: Verdict) -> None:
        """After the report of the failure: explain why no rank was debugged, or end the session if the user asked.

        Raises:
            Exit: if the user asked to end the session.
        """
        terminal: Any = self._config.pluginmanager.getplugin("terminalreporter")
        if self.attached is None:
            terminal.write_line(f"\nderail: --pdb: no rank to debug: {_why_not(verdict)}")
        if self.quits:
            pytest.exit("Quitting debugger")


def _why_not(verdict: Verdict) -> str:
    first = verdict.bad[0] if verdict.bad else None
    if first is None:
        return "no rank raised an exception"
    if first.fate == "hung":
        return f"rank {first.rank} hung, and was ended after its stack was taken"
    if first.fate == "died":
        return f"rank {first.rank} has exited ({first.words})"
    return f"rank {first.rank} failed in {first.phase}, where it cannot wait"


def _accept(listener: HandshakeListener, deadline: float) -> socket.socket | None:
    """Return the connection of the first peer that proves to be a rank of the test, or None at the deadline."""
    while (left := deadline - SYSTEM_CLOCK.now()) > 0 and is_readable(listener.fileno(), left):
        connection = listener.accept()
        if connection is None:
            continue
        connection.settimeout(max(0.001, deadline - SYSTEM_CLOCK.now()))
        try:
            if proves(_receive(connection, len(listener.endpoint.call)), listener.endpoint.call):
                connection.settimeout(None)
                return connection
        except OSError:  # the peer died, or sends nothing
            pass
        connection.close()
    return None


def _receive(connection: socket.socket, count: int) -> str:
    """Read ``count`` bytes as text; fewer if the peer closes the connection first."""
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data.decode(errors="replace")


def _bridge(connection: socket.socket) -> bool:
    """Show the rank's output and send it one line per request; return whether the user quits."""
    quits, asked, stdin = False, 0, sys.__stdin__.fileno() if sys.__stdin__ is not None else -1
    while True:
        sources: list[Any] = [connection, stdin] if asked and stdin >= 0 else [connection]
        ready, _, _ = select.select(sources, [], [])
        if connection in ready:
            data = connection.recv(4096)
            if not data:
                return quits
            asked += data.count(ASK)
            quits = quits or QUIT in data
            sys.__stdout__.write(data.replace(ASK, b"").replace(QUIT, b"").decode(errors="replace"))  # type: ignore[union-attr]
            sys.__stdout__.flush()  # type: ignore[union-attr]
        elif stdin in ready:
            asked -= 1
            line = _read_line(stdin)
            connection.sendall(line)
            if not line:
                connection.shutdown(socket.SHUT_WR)
        if asked and stdin < 0:
            connection.shutdown(socket.SHUT_WR)


def _read_line(fd: int) -> bytes:
    """Read one line, byte by byte, and leave the rest for the next reader; return nothing at the end of the input."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(fd, 1)
        if not byte:
            break
        line += byte
    return line


class Terminal:
    """File object for input and output of pdb in a rank."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("r", encoding="utf-8", errors="replace")

    def readline(self) -> str:
        """Request and return a line from the user; empty at the end of the input."""
        self._connection.sendall(ASK)
        return self._lines.readline()

    def write(self, text: str) -> int:
        """Send text to the user's terminal."""
        data = text.encode(errors="replace")
        for control in (GO, ASK, QUIT):
            data = data.replace(control, b"?")
        self._connection.sendall(data)
        return len(text)

    def flush(self) -> None:
        """Do nothing: writes are not buffered."""


def look_into(address: str, rank: int, trace: TracebackType | None) -> None:
    """In a rank that has failed and asked for the debugger: wait for the controller, then debug until the user ends."""
    from pytest_derail.ranks.pdb import RankPdb

    try:
        endpoint = Endpoint.parse(address)
        with connect(endpoint, seconds=CONNECT_SECONDS) as connection:
            connection.settimeout(None)
            connection.sendall(endpoint.call.encode())
            if not proves(_receive(connection, len(endpoint.reply)), endpoint.reply) or connection.recv(1) != GO:
                return
            if RankPdb(rank, Terminal(connection)).look_at(trace):
                connection.sendall(QUIT)
    except OSError:
        return  # another rank was first, or the controller has exited
