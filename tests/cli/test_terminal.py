"""``breakpoint()`` and Ctrl-C in a job whose launcher is the foreground process of a terminal."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from cli.conftest import command
from pseudo_terminal import on_a_terminal

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pseudo_terminal import Terminal

LAUNCHERS = {
    "derail launch": ("launch", "-n", 1),
    "derail launch, output not shown before": ("launch", "-n", 1, "-t", 3),
    "derail torchrun": ("torchrun", "--nproc-per-node", 1),
}


def derail_on_a_terminal(*words: object, temporary: Path) -> AbstractContextManager[Terminal]:
    """Run derail in the foreground of a new terminal, with a grace period of one second: pdb ignores SIGINT."""
    return on_a_terminal(command(*words), {"TMPDIR": str(temporary), "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1"})


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_breakpoint_of_a_rank_is_answered_at_the_terminal(tmp_path: Path, launcher: str) -> None:
    """The incomplete line of the prompt is shown before any input, and the rank continues on command."""
    if "torchrun" in launcher and find_spec("torch") is None:
        pytest.skip("torchrun is torch's")
    script = tmp_path / "script.py"
    script.write_text("number = 6 * 7\nbreakpoint()\nprint('went', 'on')\n")
    with derail_on_a_terminal(*LAUNCHERS[launcher], script, temporary=tmp_path) as terminal:
        terminal.wait_for("(Pdb) ")
        terminal.type("p number\n")
        terminal.wait_for("42")
        terminal.type("c\n")
        terminal.wait_for("went on")

        assert terminal.exit_code() == 0


def test_a_question_is_shown_and_its_answer_read(tmp_path: Path) -> None:
    """For programs in any language, and for any process of the rank."""
    asks = "printf 'go on? '; sh -c 'read answer; echo got $answer'"
    with derail_on_a_terminal("launch", "--", "sh", "-c", asks, temporary=tmp_path) as terminal:
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
    with derail_on_a_terminal(*LAUNCHERS[launcher], script, temporary=tmp_path) as terminal:
        terminal.wait_for("(Pdb) ")
        terminal.type("\x03")

        assert terminal.exit_code() == 130
    pid = int(terminal.shown.partition(b"pid ")[2].split()[0])
    assert pid_gone(pid)
