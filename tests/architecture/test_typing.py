"""The public names are typed, as seen by a user of the installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

API = Path(__file__).resolve().parents[1] / "typing" / "api.py"


def test_the_public_names_are_typed(tmp_path):
    """A program that uses them passes mypy in strict mode, and its mistakes are found."""
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--config-file=", str(API)]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    assert checked.returncode == 0, checked.stdout + checked.stderr
