"""The connection between the controller and a rank that is kept, and what has come through it of one test."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from pytest_derail.protocol import Order

SEND_SECONDS = 10
"""How long a rank may take to accept a test: it waits for one."""


@dataclass(slots=True)
class Told:
    """What a rank has sent of the test so far; the rest is in its record.

    Attributes:
        begun: whether its set-up has begun.
        bad: whether it does not pass.
        done: whether it is over.
        left: what it left in the rank: kind and words.
        late_bad: whether it could not tear down what it had kept for other tests.
    """

    begun: bool = False
    bad: bool = False
    done: bool = False
    left: Sequence[tuple[str, str]] = ()
    late_bad: bool = False


class Line:
    """The connection to a rank. One that has ended is no error: the end of the job is told elsewhere."""

    def __init__(self, end: Connection[Any, Any]) -> None:
        self.end = end
        self.is_open = True
        with socket.socket(fileno=os.dup(end.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))

    def send(self, order: Order | None) -> None:
        """Send a test, or that there are no more. What the rank has told before can be received all the same."""
        with suppress(OSError):
            self.end.send(order)

    def receive(self, told: Told) -> None:
        """Take one message."""
        try:
            what, left = self.end.recv()
        except (EOFError, OSError):
            self.is_open = False
            return
        if what == "late bad":
            told.late_bad = True
            return
        told.left = left
        told.begun |= what == "begun"
        told.bad |= what == "bad"
        told.done = what == "done"
