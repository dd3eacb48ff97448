"""``breakpoint()`` and Ctrl-C in a job whose launcher is the foreground process of a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from cli.conftest import command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 100.0
IN_FRONT = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
LAUNCHERS = {
    "derail launch": ("launch", "-n", 1),
    "derail launch, output not shown before": ("launch", "-n", 1, "-t", 3),
    "derail torchrun": ("torchrun", "--nproc-per-node", 1),
}


class Terminal:
    """A terminal on which one command runs in the foreground."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.shown = b""
        self._master = master
        self._process = process
        self._end = time.monotonic() + DEADLINE

    def wait_for(self, text: str) -> None:
        """Read until a text is shown."""
        while text.encode() not in self.shown:
            assert self._read(), f"{text!r} was not shown: {self.shown.decode()}"

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
def on_a_terminal(*words: object, temporary: Path) -> Iterator[Terminal]:
    """Run derail in the foreground of a new terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_FRONT, *command(*words)],
        stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "dumb", "TMPDIR": str(temporary)},
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_breakpoint_of_a_rank_is_answered_at_the_terminal(tmp_path: Path, launcher: str) -> None:
    """The incomplete line of the prompt is shown before any input, and the rank continues on command."""
    if "torchrun" in launcher and find_spec("torch") is None:
        pytest.skip("torchrun is torch's")
    script = tmp_path / "script.py"
    script.write_text("number = 6 * 7\nbreakpoint()\nprint('went', 'on')\n")
    with on_a_terminal(*LAUNCHERS[launcher], script, temporary=tmp_path) as terminal:
        terminal.wait_for("(Pdb) ")
        terminal.type("p number\n")
        terminal.wait_for("42")
        terminal.type("c\n")
        terminal.wait_for("went on")

        assert terminal.exit_code() == 0


def test_a_question_is_shown_and_its_answer_read(tmp_path: Path) -> None:
    """For programs in any language, and for any process of the rank."""
    asks = "printf 'go on? '; sh -c 'read answer; echo got $answer'"
    with on_a_terminal("launch", "--", "sh", "-c", asks, temporary=tmp_path) as terminal:
        terminal.wait_for("go on? ")
        terminal.type("yes\n")
        terminal.wait_for("got yes")

        assert terminal.exit_code() == 0


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ctrl_c_at_a_breakpoint_ends_the_job(tmp_path: Path, launcher: str, pid_gone) -> None:
    """The ranks are in sessions of their own: the launcher gets the signal and ends them."""
    if "torchrun" in launcher and find_spec("torch") is None:
        pytest.skip("torchrun is torch's")
    script = tmp_path / "script.py"
    script.write_text("import os\nprint('pid', os.getpid(), 'is here', flush=True)\nbreakpoint()\n")
    with on_a_terminal(*LAUNCHERS[launcher], script, temporary=tmp_path) as terminal:
        terminal.wait_for("(Pdb) ")
        terminal.type("\x03")

        assert terminal.exit_code() == 130
    pid = int(terminal.shown.partition(b"pid ")[2].split()[0])
    assert pid_gone(pid)
