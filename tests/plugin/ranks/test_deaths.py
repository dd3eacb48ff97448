"""Ranks that die in the middle of a test: the verdicts of derail's plugin and of torch's own class."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from plugin.ranks.deaths import ALL, RANKS
from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

TESTS = Path(__file__).resolve().parents[2]
PATH = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
SOURCE = program_text("suites/ranks/deaths")
ENDS = {
    "kill": "SIGKILL (9), in call",
    "segfault": "SIGSEGV (11), in call",
    "exit_seven": "exit 7, in call",
    "exit_early": "exit 0 before the end of the test, in call",
}


def test_each_death_is_a_failure_with_rank_signal_and_last_line(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL, a segfault, _exit(7), exit 0 too early, and a hang in C, on rank 0 and on rank 3, whether the others
    wait for that rank or not: none is green, and the other tests go on."""
    monkeypatch.setenv("PYTHONPATH", PATH)
    result = run_pytest(SOURCE, "--show-capture=no", "--junitxml=report.xml")
    result.assert_outcomes(failed=len(ALL), passed=1)
    failures = {
        case.get("name"): (found.get("message"), found.text)
        for case in ET.parse("report.xml").iter("testcase")
        for found in case.iter("failure")
    }
    assert set(failures) == {f"test_death[{death.id}]" for death in ALL}
    for death in ALL:
        message, text = failures[f"test_death[{death.id}]"]
        others = set(range(RANKS)) - {death.rank}
        fate = "stopped in call, because of another rank" if death.missed else r"(passed|stopped in \w+, .*)"
        assert all(re.search(rf"^rank {other}: {fate}$", text, re.MULTILINE) for other in others), text
        if death.die in ENDS:
            assert message == f"rank {death.rank}: {ENDS[death.die]}"
            assert f"rank {death.rank}: {ENDS[death.die]}  <- root cause\n" in text
            assert f"last lines of its stdout:\n  last words of {death.rank}\n" in text
        else:
            assert message == f"not over after 4 s: rank {death.rank} hung"
            assert f"rank {death.rank}: hung in call\n" in text
            assert re.search(rf"rank {death.rank}: where it was -+\n(.*\n)+?state: S \(sleeping\)\n", text)
            assert " in hang_in_c\n" in text
            assert " in test_death\n" in text
            assert "_pytest" not in text
        if death.die == "segfault":
            assert "Fatal Python error: Segmentation fault" in text
            assert " in segfault\n" in text


@pytest.mark.torch
@pytest.mark.slow
def test_torchs_own_class_is_green_over_some_deaths_and_blames_others_for_most(tmp_path: Path) -> None:
    """Of the same bodies: it looks at the exit code of rank 0 only, sees no death while others still run, and does not
    have what a rank said."""
    if importlib.util.find_spec("expecttest") is None:
        pytest.skip("torch's classes for tests need expecttest: pip install expecttest")
    done = subprocess.run(
        [sys.executable, "-m", "plugin.ranks.torch_deaths"],
        env={**os.environ, "PYTHONPATH": PATH, "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT": "4", "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=220, check=True,
    )  # fmt: skip
    said = json.loads(done.stderr.splitlines()[-1])

    blamed = {death.id: re.findall(r"Process (\d) ", said[death.id]) for death in ALL}
    ends = {"kill": "-9", "segfault": "-11", "exit_seven": "7"}
    assert {
        "green": [death.id for death in ALL if not said[death.id]],
        "the right rank": [death.id for death in ALL if blamed[death.id] == [str(death.rank)]],
        "another rank": [death.id for death in ALL if blamed[death.id] not in ([], [str(death.rank)])],
        "the status": [death.id for death in ALL if f"Expected 0 but got {ends.get(death.die)}." in said[death.id]],
        "the last line": [death.id for death in ALL if f"last words of {death.rank}" in said[death.id]],
    } == {
        "green": [f"{die}-3-not_missed" for die in ("kill", "segfault", "exit_seven")]
        + [f"exit_early-{rank}-not_missed" for rank in (0, 3)],
        "the right rank": [f"hang_in_c-{rank}-not_missed" for rank in (0, 3)],
        "another rank": [
            f"{die}-{rank}-missed" for die in ("kill", "segfault", "exit_seven", "exit_early") for rank in (0, 3)
        ],
        "the status": [f"{die}-0-not_missed" for die in ("kill", "segfault", "exit_seven")],
        "the last line": [],
    }
