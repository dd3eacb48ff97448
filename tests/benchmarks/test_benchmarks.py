"""One short round of all that is measured: the table is whole, and derail's facts are right. Times are never judged."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import compare, plan

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_a_short_round_fills_the_table_and_no_line_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """Each launcher gives a number for each row; derail tees each line once and whole, and has one thread."""
    results = compare.run(rounds=1, short=True, names=compare.installed())
    with capsys.disabled():
        print(f"\n{compare.table(results)}")
    empty = [
        (row.text, name)
        for each in plan.plan(short=True)
        for row in each.rows
        for name in results.names
        if name not in each.skip and results.median(row, name) is None
    ]
    assert empty == []
    facts = {row.text: results.median(row, "derail") for row in results.rows if row.aim == "exactly"}
    assert facts == {row.text: row.bound for row in results.rows if row.aim == "exactly"}
    assert len(facts) == 13


def test_a_lost_a_torn_and_a_doubled_line_are_counted(tmp_path: Path) -> None:
    """The account of a console tells the three kinds of damage apart, or the numbers in the table mean nothing."""
    from benchmarks.measures import _account

    def line(number: int) -> str:
        return f"[bench0]:rank 0 line {number:07d} {'x' * (40 + number % 60)} end\n"

    shown = tmp_path / "console"
    torn = line(2)
    shown.write_text(line(0) + line(1) + line(1) + torn[:20] + "\n" + torn[20:] + line(3).rstrip("\n"))
    assert _account(shown, 1, 5) == {"lost": 3, "torn": 3, "doubled": 1}


@pytest.mark.benchmark
def test_the_comparison_runs_as_docs_say() -> None:
    """The documented command prints a table and exits 0."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compare", "--short", "--rounds", "1", "--only", "wait", "--names", "floor"],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "| wait(0.1), all idle (ms) |" in done.stdout


@pytest.mark.torch
@pytest.mark.benchmark
def test_a_collective_runs_in_each_way(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A number for bare forks, warm and spawned ranks, and torch's own ways; torch's class needs expecttest."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.collective", "--rounds", "5", "--slow-rounds", "1"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
            "TMPDIR": str(tmp_path),  # torch's class leaves files there
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines()[2:] if line.startswith("|")]
    ways = ["bare fork", "derail warm", "derail spawn", "mp.spawn", "MultiProcessTestCase"]
    assert rows == ways[: 5 if importlib.util.find_spec("expecttest") else 4]


_FIGURES = {"floor": 1.0, "derail": 2.0, "torch": 40.0}


@pytest.mark.parametrize(
    ("aim", "bound", "met"),
    [
        ("floor x", 3, True),
        ("floor x", 1, False),
        ("torch /", 20, True),
        ("torch /", 21, False),
        ("torch x", 0.05, True),
        ("torch x", 1, False),
        ("exactly", 2, True),
        ("exactly", 1, False),
    ],
)
def test_an_aim_is_judged_by_what_it_names(aim: str, bound: float, *, met: bool) -> None:
    """An aim is met or not met by the numbers of its own row."""
    row = plan.Row("key", "text", "ms", aim, bound)
    said = compare.verdict(row, *_FIGURES.values())
    assert said.endswith(": met" if met else ": NOT MET")
