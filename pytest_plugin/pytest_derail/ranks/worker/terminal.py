"""In a rank: the terminal of the pytest run, for a debugger, through a connection to the controller.

The rank requests each line, so that it never consumes a line meant for another rank or for the next test.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeAlias

from derail.platform.handshake import Endpoint, connect, proves

if TYPE_CHECKING:
    import socket

GO, ASK, QUIT = b"\x01", b"\x05", b"\x04"
CONNECT_SECONDS = 10.0
"""Seconds within which a rank that has connected must prove that it belongs to the test."""

Reason: TypeAlias = Literal["failure", "breakpoint", "ide"]

WITHOUT_TERMINAL = "pytest has no terminal here. Run this test in a terminal, or with --pdb, to debug its ranks"
NOT_ATTENDED = "no test of this rank runs in pytest now, which therefore does not attend to it"


@dataclass(slots=True)
class Access:
    """How debuggers in this process reach the terminal.

    Attributes:
        address: the endpoint of the controller, as text; empty without a terminal.
        refusal: why there is none, and what to do.
        rank: the number of this rank where the environment does not have it; empty elsewhere.
    """

    address: str = ""
    refusal: str = WITHOUT_TERMINAL
    rank: str = ""


ACCESS = Access()
"""State of this process; the order of each test sets it."""


class NoTerminalError(RuntimeError):
    """Error for a breakpoint in a rank that has no terminal."""


def refuse(refusal: str | None = None) -> NoReturn:
    """Fail with an explanation.

    Raises:
        NoTerminalError: in a process without pytest; otherwise no ``except Exception`` of the test catches it.
    """
    __tracebackhide__ = True
    text = f"breakpoint() in rank {ACCESS.rank or os.environ.get('RANK', '?')}: {refusal or ACCESS.refusal}"
    if "pytest" in sys.modules:
        import pytest

        pytest.fail(text)
    raise NoTerminalError(text)


class Terminal:
    """File object for input and output of a debugger in a rank.

    Output is kept until the rank gets the terminal. A thread that opens a second one closes its first one: only the
    newest debugger of a thread still runs.

    Args:
        reason: why the rank is debugged.
    """

    _opened: ClassVar[dict[tuple[int, int], Terminal]] = {}  # by process and thread

    def __init__(self, reason: Reason) -> None:
        self._reason = reason
        self._endpoint: Endpoint | None = None
        self._connection: socket.socket | None = None
        self._lines: Any = None
        self._kept = b""

    @classmethod
    def close_all(cls) -> None:
        """Close the terminals of this process: its test is over."""
        for terminal in list(cls._opened.values()):
            terminal.close()

    def connect(self) -> None:
        """Connect to the controller, which stops the clocks of the test from now on.

        Raises:
            OSError: if the controller does not listen any more.
        """
        if self._connection is None:
            self._endpoint = Endpoint.parse(ACCESS.address)
            self._connection = connect(self._endpoint, seconds=CONNECT_SECONDS)

    def open(self) -> bool:
        """Wait until the rank gets the terminal; return False if it does not get it.

        Raises:
            OSError: if the controller does not listen any more.
        """
        if self._lines is not None:
            return True
        key = (os.getpid(), threading.get_ident())
        if key in self._opened:
            self._opened[key].close()
        self.connect()
        connection, endpoint = self._connection, self._endpoint
        assert connection is not None, "connect() has returned"
        assert endpoint is not None, "connect() has returned"
        try:
            introduce(connection, endpoint, self._reason)
            if not proves(receive(connection, len(endpoint.reply)), endpoint.reply) or connection.recv(1) != GO:
                self.close()
                return False
            connection.sendall(self._kept)
        except OSError:
            self.close()
            return False
        self._kept = b""
        self._lines = connection.makefile("r", encoding="utf-8", errors="replace")
        self._opened[key] = self
        return True

    def close(self, *, quits: bool = False) -> None:
        """Release the terminal; ``quits`` asks the controller to end the session. Idempotent."""
        connection, self._connection, self._lines = self._connection, None, None
        for key, terminal in list(self._opened.items()):
            if terminal is self:
                del self._opened[key]
        if connection is None:
            return
        with connection:
            if quits:
                try:
                    connection.sendall(QUIT)
                except OSError:
                    pass  # the controller has exited

    def readline(self) -> str:
        """Request and return a line from the user; empty at the end of the input."""
        if self._connection is None or self._lines is None:
            return ""
        try:
            self._connection.sendall(ASK)
            return str(self._lines.readline())
        except OSError:
            return ""

    def write(self, text: str) -> int:
        """Send text to the user's terminal."""
        data = text.encode(errors="replace")
        for control in (GO, ASK, QUIT):
            data = data.replace(control, b"?")
        if self._lines is None or self._connection is None:
            self._kept += data
        else:
            self._connection.sendall(data)
        return len(text)

    def flush(self) -> None:
        """Do nothing: writes are not buffered."""


def introduce(connection: socket.socket, endpoint: Endpoint, reason: Reason, detail: str = "") -> None:
    """Prove to the controller that this is a rank of its test, and say why it calls."""
    connection.settimeout(None)
    connection.sendall(f"{endpoint.call}{reason} {ACCESS.rank or os.environ['RANK']} {detail}\n".encode())


def call_controller(endpoint: Endpoint, reason: Reason, detail: str) -> socket.socket:
    """Return a connection to the controller, which stops the clocks of the test until it is closed.

    Raises:
        OSError: if the controller does not listen any more.
    """
    connection = connect(endpoint, seconds=CONNECT_SECONDS)
    try:
        introduce(connection, endpoint, reason, detail)
    except BaseException:
        connection.close()
        raise
    return connection


def receive(connection: socket.socket, count: int) -> str:
    """Read ``count`` bytes as text; fewer if the peer closes the connection first."""
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data.decode(errors="replace")
