"""A pseudo-terminal on which a test runs one command in the foreground."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEADLINE = 100.0
IN_FRONT = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A terminal on which one command runs in the foreground."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.shown = b""
        self._master = master
        self._process = process
        self._at = 0
        self._end = time.monotonic() + DEADLINE

    def wait_for(self, text: str) -> None:
        """Read until a text is shown, after the one of the previous call."""
        while (at := self.shown.find(text.encode(), self._at)) < 0:
            assert self._read(), f"{text!r} was not shown: {self.shown.decode()}"
        self._at = at + len(text.encode())

    def type(self, text: str) -> None:
        """Send the input of a user."""
        os.write(self._master, text.encode())

    def exit_code(self) -> int:
        """Wait for the command and return its exit code."""
        while self._read():
            pass
        return self._process.wait(DEADLINE)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], max(0.0, self._end - time.monotonic()))[0]:
            pytest.fail(f"nothing more is shown: {self.shown.decode()}")
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: no process has the terminal open any more
            return False
        self.shown += data
        return bool(data)


@contextmanager
def on_a_terminal(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a command in the foreground of a new terminal, with more variables."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_FRONT, *command],
        stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "dumb", **environment},
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
