"""The commands of the tutorial, with the files that it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli.conftest import Derail

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "first-ten-minutes.md"


def blocks(language: str) -> list[str]:
    """Return the code blocks of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the commands of the page."""
    return re.findall(r"^\$ derail (.*)$", PAGE.read_text(), re.MULTILINE)


@pytest.fixture
def in_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Return a directory with the files of the page."""
    (tmp_path / "train.py").write_text(blocks("python")[0])
    (tmp_path / "killed.toml").write_text(blocks("toml")[0])
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_tutorial")
@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (0, 0, "[rank2]:step 0 of rank 2 of 4\n"),
        (1, 137, "signal SIGKILL on rank 2 at line 'step 3': injected"),
        (2, 0, "PASS  killed\n"),
        (3, 0, "PASS  crash/killed_at_step_3\n"),
    ],
)
def test_each_command_does_what_the_page_says(derail_command: Derail, number: int, code: int, says: str) -> None:
    """Exit code and the shown line."""
    done = derail_command(*shlex.split(commands()[number]))
    assert (done.returncode, says in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr


def test_no_command_is_left_out() -> None:
    """A command that is added to the page must be added here."""
    assert len(commands()) == 4
