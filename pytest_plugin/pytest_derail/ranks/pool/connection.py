"""Connection between the controller and a reused rank, and the messages of one test that arrived through it."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from derail.model.clock import SYSTEM_CLOCK
from pytest_derail.protocol import report_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from pytest_derail.protocol import Order

SEND_SECONDS = 10
"""Seconds within which a rank must accept a task, as it waits for one."""

LOOK, STATE = "look", "state"
"""The controller's question where a rank on another machine is, and the rank's answer, a ``State``."""


@dataclass(frozen=True, slots=True)
class Placement:
    """First message to a rank that another launcher has placed.

    Attributes:
        order: describes the session; its test is not run.
        modules: the files of all tests that may follow.
        logs: the files of stdout and stderr; None on another machine.
        records: whether the rank records its collectives.
    """

    order: Order
    modules: Sequence[str]
    logs: tuple[str, str] | None
    records: bool


@dataclass(frozen=True, slots=True)
class State:
    """Where a rank on another machine is.

    Attributes:
        ring: the content of its ring file; empty if it has recorded nothing.
        now: monotonic seconds on that machine.
        stack: the stacks of its threads, as ``faulthandler`` writes them.
    """

    ring: bytes
    now: float
    stack: str


@dataclass(slots=True)
class RankMessages:
    """Messages of a rank about the current test; everything else is in the rank's record.

    Attributes:
        begun: whether its set-up has begun.
        bad: whether it does not pass.
        done: whether it is over.
        left: what it left in the rank: kind and description.
        late_bad: whether the tear-down of fixtures kept for other tests failed.
    """

    begun: bool = False
    bad: bool = False
    done: bool = False
    left: Sequence[tuple[str, str]] = ()
    late_bad: bool = False


class Line:
    """Connection to a rank. Its end is not an error: the end of the job is reported elsewhere.

    Attributes:
        end: the connection.
        is_open: whether the rank can still send anything.
        closed_at: monotonic seconds at which its end was noticed; None if it is open.
    """

    def __init__(self, end: Connection[Any, Any]) -> None:
        self.end = end
        self.is_open = True
        self.closed_at: float | None = None
        with socket.socket(fileno=os.dup(end.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))

    def send(self, task: object) -> None:
        """Send a task, or None if there are no more. Messages that the rank sent before can still be received."""
        with suppress(OSError):
            self.end.send(task)

    def receive(self, messages: RankMessages) -> None:
        """Receive one message."""
        try:
            message, left = self.end.recv()
        except (EOFError, OSError):
            self.is_open, self.closed_at = False, SYSTEM_CLOCK.now()
            return
        self.note(message, left, messages)

    def note(self, message: str, left: Any, messages: RankMessages) -> None:
        """Note a message."""
        if message == "late bad":
            messages.late_bad = True
            return
        messages.left = left
        messages.begun |= message == "begun"
        messages.bad |= message == "bad"
        messages.done = message == "done"


class CarryingLine(Line):
    """Connection to a rank whose records come through it, and are written here.

    Args:
        end: the connection.
        folder: folder of the ranks; records belong into it, or into one of its folders.
        rank: number of the rank.

    Attributes:
        state: the last answer where the rank is, and when it came; None if there was none.
    """

    def __init__(self, end: Connection[Any, Any], folder: Path, rank: int) -> None:
        super().__init__(end)
        self._folder, self._rank = folder, rank
        self.state: tuple[State, float] | None = None

    def note(self, message: str, left: Any, messages: RankMessages) -> None:
        """Note a message or a state, or write entries of a record."""
        if message == STATE:
            self.state = (left, SYSTEM_CLOCK.now())
            return
        if message != "record":
            super().note(message, left, messages)
            return
        name, data = left
        place = self._folder / os.path.basename(name)
        with report_path(place if place.is_dir() else self._folder, self._rank).open("ab") as file:
            file.write(data)
