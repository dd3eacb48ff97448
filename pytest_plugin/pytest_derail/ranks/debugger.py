"""Debuggers of ranks at the terminal of the pytest run: after a failure with ``--pdb``, and at breakpoints; and IDEs.

A rank connects to a socket of the controller that only processes of this user can reach. Both ends prove that they
belong to the same test, because the debugger executes what it receives. While a rank is debugged, the time limits of
the test are paused, and other ranks wait for their turn.
"""

from __future__ import annotations

import codecs
import os
import socket
import sys
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Self

import pytest
from _pytest.config import create_terminal_writer

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.exits import is_readable
from derail.platform.handshake import HandshakeListener, proves
from pytest_derail.options import debugpy_ranks
from pytest_derail.ranks.worker.terminal import ASK, CONNECT_SECONDS, GO, QUIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from derail.platform.handshake import Endpoint
    from pytest_derail.ranks.result import Verdict

TURN_SECONDS = 1.0
"""Seconds that a debugger runs the rank's code before another rank that waits for the terminal gets it. That one may be
the one for which the first waits, in a collective."""

HEADER_BYTES = 200
"""Maximum length of what a rank sends after its proof: the reason, its number, and a text."""

PDB_OF_PYTEST = "pdbinvoke"
"""Name of pytest's own plugin, which opens pdb in the controller."""

HAS_TERMINAL: pytest.StashKey[bool] = pytest.StashKey()


def has_terminal(config: pytest.Config) -> bool:
    """Return whether a user may answer: stdin is a terminal, unlike in CI or in a worker of pytest-xdist."""
    if HAS_TERMINAL not in config.stash:
        with _uncaptured(config):
            stdin = sys.__stdin__
            is_user = stdin is not None and not stdin.closed and stdin.isatty()
        config.stash[HAS_TERMINAL] = is_user and not hasattr(config, "workerinput")
    return config.stash[HAS_TERMINAL]


@contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        yield
        return
    capture.suspend(in_=True)
    try:
        yield
    finally:
        capture.resume()


class Debugger:
    """Controller end of the debuggers of a test: a context manager around its ranks.

    Without ``--pdb`` and ``--derail-debugpy``, and without a terminal, it does nothing.

    Attributes:
        address: the endpoint for debuggers of ranks, as text; empty if they get no terminal.
        address_for_ide: the endpoint for ranks that wait for an IDE, as text; empty without ``--derail-debugpy``.
        post_mortem: whether the first rank that fails is debugged: ``--pdb``.
        ide: which ranks wait for an IDE.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.address = self.address_for_ide = ""
        self.ide = debugpy_ranks(config)
        self.post_mortem = bool(config.getoption("usepdb", default=False))
        self._config = config
        self._listener: HandshakeListener | None = None
        self._has_debugged_failure = self._quits = False

    def open(self, parent: Path) -> Self:
        """Listen in a directory below ``parent``, if ranks can be debugged."""
        reads = self.post_mortem or has_terminal(self._config)
        if reads or self.ide is not None:
            self._listener = HandshakeListener().open(parent)
            endpoint = str(self._listener.endpoint)
            self.address, self.address_for_ide = endpoint if reads else "", endpoint if self.ide is not None else ""
        return self

    def __enter__(self) -> Self:
        """Return the debugger."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the listener: ranks that connect later, or wait for their turn, continue."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    @property
    def needs_own_ranks(self) -> bool:
        """Whether ranks are not reused, because the user decides what becomes of them."""
        return self.post_mortem or self.ide is not None

    def may_be_waited_for(self, rank: int) -> bool:
        """Return whether other ranks may end later than ``rank``, which did not pass: a user debugs them in an IDE."""
        return self.ide is not None and self.ide != rank

    @property
    def sources(self) -> Sequence[HandshakeListener]:
        """Objects that are readable when a rank waits for the terminal."""
        return () if self._listener is None else (self._listener,)

    def attend(self, failure_of: Callable[[int], str]) -> float:
        """If ranks wait for the terminal, give it to them until all continue; return the seconds that this took.

        Args:
            failure_of: returns the text of a rank's failure.

        Raises:
            Exit: if the user ended the session at a breakpoint.
        """
        __tracebackhide__ = True
        if self._listener is None or not is_readable(self._listener.fileno()):
            return 0.0
        begun = SYSTEM_CLOCK.now()
        hook = self._config.hook
        with _uncaptured(self._config), ExitStack() as stack:
            turns = _Turns(self._config, self._listener, failure_of, may_debug_failure=not self._has_debugged_failure)
            stack.callback(turns.close)
            hook.pytest_enter_pdb(config=self._config, pdb=None)
            stack.callback(hook.pytest_leave_pdb, config=self._config, pdb=None)
            turns.serve()
        self._has_debugged_failure |= turns.has_debugged_failure
        if turns.quits is not None:
            self.__exit__(None, None, None)
            if turns.quits == "breakpoint":
                pytest.exit("Quitting debugger")
            self._quits = True
        return SYSTEM_CLOCK.now() - begun

    def conclude(self, verdict: Verdict) -> None:
        """With ``--pdb``, after the report of a failure: say why no rank was debugged, or end the session if asked to.

        Raises:
            Exit: if the user asked to end the session.
        """
        if self.post_mortem and not self._has_debugged_failure:
            terminal: Any = self._config.pluginmanager.getplugin("terminalreporter")
            terminal.write_line(f"\nderail: --pdb: no rank to debug: {_why_not(verdict)}")
        if self._quits:
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


class _Visitor:
    """Connection of a rank that is debugged, or waits for that, or has yet to prove that it belongs to the test."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline
        self.rank = -1
        self.reason = self.detail = ""
        self.has_begun = False
        self.asked = 0
        self.quits = False
        self.output = ""
        self._received = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def is_known(self) -> bool:
        return bool(self.reason)

    @property
    def wants_terminal(self) -> bool:
        return self.is_known and self.reason != "ide" and (not self.has_begun or self.asked > 0)

    def receive(self, endpoint: Endpoint) -> bool:
        """Receive once; return False at the end of the connection, and for a peer that is no rank of the test."""
        try:
            data = self.connection.recv(4096)
        except OSError:
            return False
        if self.is_known:
            self.asked += data.count(ASK)
            self.quits |= QUIT in data
            self.output += self._decoder.decode(data.replace(ASK, b"").replace(QUIT, b""), final=not data)
            return bool(data)
        self._received += data
        call = self._received[: len(endpoint.call)]
        if len(call) == len(endpoint.call) and not proves(call.decode(errors="replace"), endpoint.call):
            return False
        header, newline, _ = self._received[len(call) :].partition(b"\n")
        if newline:
            self.reason, number, self.detail = f"{header.decode(errors='replace')}  ".split(" ", 2)
            self.rank = int(number) if number.isdigit() else -1
        return bool(data) and len(header) <= HEADER_BYTES

    def send(self, data: bytes) -> None:
        """Send; the loop notices at the next receive that a rank has died."""
        try:
            self.connection.sendall(data)
        except OSError:
            pass


class _Turns:
    """Ranks that share the terminal: one has it until it continues, or while it does not need it.

    Attributes:
        quits: the reason of the debugger in which the user ended the session; None if that did not happen.
        has_debugged_failure: whether a rank was debugged because it failed.
    """

    def __init__(
        self,
        config: pytest.Config,
        listener: HandshakeListener,
        failure_of: Callable[[int], str],
        *,
        may_debug_failure: bool,
    ) -> None:
        self.quits: str | None = None
        self.has_debugged_failure = False
        self._writer = create_terminal_writer(config, sys.__stdout__)
        self._listener = listener
        self._failure_of = failure_of
        self._may_debug_failure = may_debug_failure
        self._visitors: list[_Visitor] = []
        self._current: _Visitor | None = None
        self._turn_ends = 0.0
        self._stdin = sys.__stdin__.fileno() if sys.__stdin__ is not None else -1

    def close(self) -> None:
        """Close the connections: the ranks continue."""
        for visitor in self._visitors:
            visitor.connection.close()

    def serve(self) -> None:
        """Give the terminal to each rank that wants it, until none is connected or the user ends the session."""
        self._accept()
        while self._visitors and self.quits is None:
            for ready in wait(self._sources(), self._patience()):
                if ready == self._listener.fileno():
                    self._accept()
                elif ready == self._stdin:
                    self._pass_line()
                else:
                    self._receive(next(each for each in self._visitors if each.connection is ready))
            now = SYSTEM_CLOCK.now()
            for visitor in [each for each in self._visitors if not each.is_known and now >= each.deadline]:
                self._remove(visitor)
            self._take_turns(now)

    def _sources(self) -> list[Any]:
        sources: list[Any] = [self._listener.fileno(), *(each.connection for each in self._visitors)]
        current = self._current
        return [*sources, self._stdin] if current is not None and current.asked and self._stdin >= 0 else sources

    def _patience(self) -> float | None:
        """Return the seconds until a deadline of a rank; None if there is none."""
        current = self._current
        deadlines = [each.deadline for each in self._visitors if not each.is_known]
        if current is not None and not current.asked and any(each.wants_terminal for each in self._visitors):
            deadlines.append(self._turn_ends)
        first = min(deadlines, default=float("inf"))  # a turn whose rank has not asked for a line yet has no end
        return None if first == float("inf") else max(0.0, first - SYSTEM_CLOCK.now())

    def _accept(self) -> None:
        while (connection := self._listener.accept()) is not None:
            self._visitors.append(_Visitor(connection, SYSTEM_CLOCK.now() + CONNECT_SECONDS))

    def _receive(self, visitor: _Visitor) -> None:
        was_known = visitor.is_known
        goes_on = visitor.receive(self._listener.endpoint)
        if visitor.is_known and not was_known and visitor.reason == "failure":
            goes_on &= self._may_debug_failure  # only the rank that failed first is debugged
            self._may_debug_failure = False
        if visitor.is_known and not was_known and visitor.reason == "ide":
            self._writer.line(f"\nrank {visitor.rank} waits for a debugger at {visitor.detail.strip()}")
            self._writer.flush()
        if visitor is self._current:
            self._show(visitor)
        if visitor.quits:
            self.quits = visitor.reason
        if not goes_on:
            self._remove(visitor)

    def _remove(self, visitor: _Visitor) -> None:
        if visitor.output:
            self._begin_turn(visitor)
        if visitor is self._current:
            self._current = None
            if visitor.reason == "breakpoint" and not visitor.quits:
                self._writer.sep(">", f"rank {visitor.rank}: continues")
        visitor.connection.close()
        self._visitors.remove(visitor)

    def _take_turns(self, now: float) -> None:
        """Give the terminal to the next rank, unless the one that has it needs it."""
        current = self._current
        if current is not None and (current.asked or now < self._turn_ends):
            return
        waiting = next((each for each in self._visitors if each.wants_terminal), None)
        if waiting is not None:
            self._begin_turn(waiting)

    def _begin_turn(self, visitor: _Visitor) -> None:
        self._current, self._turn_ends = visitor, float("inf")
        self._writer.line()
        if not visitor.has_begun and visitor.reason == "failure":
            self.has_debugged_failure = True
            self._writer.sep(">", f"rank {visitor.rank}: traceback")
            self._writer.line(self._failure_of(visitor.rank))
            self._writer.sep(">", f"rank {visitor.rank}: pdb")
        else:
            self._writer.sep(">", f"rank {visitor.rank}: {'pdb' if visitor.has_begun else 'breakpoint'}")
        if not visitor.has_begun:
            visitor.has_begun = True
            visitor.send(self._listener.endpoint.reply.encode() + GO)
        self._show(visitor)

    def _show(self, visitor: _Visitor) -> None:
        output, visitor.output = visitor.output, ""
        stdout = sys.__stdout__
        if output and stdout is not None:
            stdout.write(output)
            stdout.flush()
        if visitor.asked and self._stdin < 0:
            self._end_input(visitor)

    def _pass_line(self) -> None:
        visitor = self._current
        if visitor is not None:
            visitor.asked -= 1
            self._turn_ends = SYSTEM_CLOCK.now() + TURN_SECONDS
            line = _read_line(self._stdin)
            visitor.send(line)
            if not line:
                self._end_input(visitor)

    def _end_input(self, visitor: _Visitor) -> None:
        visitor.asked = 0
        try:
            visitor.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the rank has died


def _read_line(fd: int) -> bytes:
    """Read one line, byte by byte, and leave the rest for the next reader; return nothing at the end of the input."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(fd, 1)
        if not byte:
            break
        line += byte
    return line
