"""The commands of the tutorial about launchers do what it says, with the files that it shows."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "verifying-an-agent.md"
TEXT = PAGE.read_text()


def blocks(language: str) -> list[str]:
    """Return what the page shows in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_first_launcher_fails_and_the_second_one_passes(tmp_path: Path) -> None:
    """Each command exits as the page says, and the reasons that it quotes are given."""
    launcher, better = blocks("python")
    (tmp_path / "launcher.py").write_text(launcher)
    (tmp_path / "better.py").write_text(better)
    (tmp_path / "launcher.toml").write_text(blocks("toml")[0])
    scripts = sysconfig.get_path("scripts")
    env = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "COLUMNS": "200"}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        words = [Path(scripts, "derail"), *shlex.split(command)]
        return subprocess.run(
            words,
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    done = [run(command) for command in re.findall(r"^\$ derail (.*)$", TEXT, re.MULTILINE)]

    assert [ran.returncode for ran in done] == [1, 0, 0], [ran.stdout + ran.stderr for ran in done]
    quoted = re.findall(r"^  \* (expected .*), got ", blocks("text")[0], re.MULTILINE)
    assert len(quoted) == 6
    assert [reason for reason in quoted if reason.partition(" at most ")[0] not in done[0].stdout] == []
    assert "2 scenarios: 2 PASS" in done[1].stdout
    assert "better (2):" in done[2].stdout
