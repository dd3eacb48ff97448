"""The comparison of torch's own runner with adopted tests has its rows, and their verdicts are equal."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.torch
@pytest.mark.benchmark
@pytest.mark.timeout(900)
@pytest.mark.skipif(importlib.util.find_spec("expecttest") is None, reason="torch's classes need expecttest")
def test_collectives_have_equal_verdicts_in_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Eleven tests in one run. Times are never judged."""
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.adopted", "-k", "TestCollectives"],
        env={**os.environ, "PYTHONPATH": paths, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stderr
    assert [line.split("|")[1].strip() for line in done.stdout.splitlines()[2:5]] == [
        "own runner",
        "adopted",
        "ratio",
    ]
    assert done.stdout.splitlines()[-1] == "verdicts that differ: none"
