"""The suite of docs/examples in other harnesses: all its bodies run there, and the comparison has all its rows."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The comparison, as its docstring says that it is started."""
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.harnesses", *arguments],
        # torch's classes leave files in the temporary directory
        env={**os.environ, "PYTHONPATH": paths, "TORCHINDUCTOR_CACHE_DIR": str(folder), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )


def names_of(table: str) -> list[str]:
    """The first column."""
    return [line.split("|")[1].strip() for line in table.splitlines()[2:] if line.startswith("|")]


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_tests_of_the_suite_pass_in_harnesses_that_know_nothing_of_pytest(tmp_path: Path) -> None:
    """In bare forks with a group for each test, and in kept ones with one group for all: nothing in a body is ours."""
    done = run(tmp_path, "--all", "--rounds", "1", "--slow-rounds", "0", "--names", "bare fork", "kept forks")

    assert done.returncode == 0, done.stderr
    one, _, rest = done.stdout.partition("\n\n")
    assert names_of(one) == ["bare fork", "kept forks"]
    assert [line.split("|")[-2].strip() for line in rest.splitlines()[2:4]] == ["63", "62"]


@pytest.mark.torch
@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_one_test_runs_in_every_harness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each; torch's classes need expecttest. Times are never judged."""
    done = run(tmp_path, "--rounds", "3", "--slow-rounds", "1")
    with capsys.disabled():
        print(f"\n{done.stdout}")

    assert done.returncode == 0, done.stderr
    ways = ["bare fork", "kept forks", "derail reused", "derail warm", "derail warm, start_processes", "derail spawn"]
    torchs = ["MultiProcContinuousTest", "MultiProcessTestCase"] if importlib.util.find_spec("expecttest") else []
    assert names_of(done.stdout) == [*ways, *torchs]
