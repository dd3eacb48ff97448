"""Connection between the controller and a reused rank, and the messages of one test that arrived through it."""

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

SEND_SECONDS = 10
"""Seconds within which a rank must accept a task, as it waits for one."""


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
    """Connection to a rank. Its end is not an error: the end of the job is reported elsewhere."""

    def __init__(self, end: Connection[Any, Any]) -> None:
        self.end = end
        self.is_open = True
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
            self.is_open = False
            return
        if message == "late bad":
            messages.late_bad = True
            return
        messages.left = left
        messages.begun |= message == "begun"
        messages.bad |= message == "bad"
        messages.done = message == "done"
