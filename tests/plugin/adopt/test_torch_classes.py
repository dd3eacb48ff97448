"""Torch's classes for tests in several processes, adopted: the verdicts of their own runner, and derail's judgement."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from plugin.adopt.junit import outcomes
from plugin.ranks.deaths import ALL, Death
from program_files import program_text
from pytest_derail.shapes import REMEDY

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("expecttest") is None, reason="torch's classes need expecttest"),
]

TESTS = Path(__file__).resolve().parents[2]
PAGE = TESTS.parent / "docs" / "how-to" / "adopt-test-classes.md"
ADOPT = ("pytest_derail.adopt",)
OF_ALL_CLASSES = program_text("suites/adopt/torch_classes")
OWN_METHODS = program_text("suites/adopt/own_methods")
BY_FORK = program_text("suites/adopt/conftest_that_forks")
GREEN_IN_TORCH = [
    *(f"{die}-3-not_missed" for die in ("kill", "segfault", "exit_seven")),
    *(f"exit_early-{rank}-not_missed" for rank in (0, 3)),
]
"""Deaths over which torch's own class is green, as ``test_deaths`` shows."""


@pytest.mark.slow
def test_verdicts_are_those_of_the_own_runner_and_nothing_is_left(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, temporary: Path
) -> None:
    """Over the four classes: passes, failures, skips by code and by exception, expected failures, expected exit codes.

    Set-up and tear-down run once, a class of continuous tests is initialised once, and each file name is gone.
    """
    monkeypatch.setenv("SUITE_LOG", str(tmp_path / "own.log"))
    run_pytest(OF_ALL_CLASSES, "--junitxml=own.xml", conftest=BY_FORK)
    monkeypatch.setenv("SUITE_LOG", str(tmp_path / "ranks.log"))
    before = set(os.listdir(temporary))
    result = run_pytest(OF_ALL_CLASSES, "--junitxml=ranks.xml", conftest="", plugins=ADOPT)
    verdicts = outcomes("ranks.xml")
    assert verdicts == outcomes("own.xml")
    assert len(verdicts) > 50
    assert sorted((tmp_path / "ranks.log").read_text().splitlines()) == sorted(
        (tmp_path / "own.log").read_text().splitlines()
    )
    assert (tmp_path / "ranks.log").read_text().splitlines().count("init 0") == 1
    assert set(os.listdir(temporary)) == before
    result.stdout.fnmatch_lines(["derail adopted 11 classes, * tests on warm ranks"])


@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param([death for death in ALL if death.id in GREEN_IN_TORCH], id="green_in_torch"),
        pytest.param([death for death in ALL if death.id not in GREEN_IN_TORCH], id="others", marks=pytest.mark.slow),
    ],
)
def test_each_death_is_red_and_names_its_rank(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, deaths: list[Death]
) -> None:
    """Also those over which the own class is green, because it looks at the exit code of rank 0 only."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    only = [death.id for death in deaths]
    result = run_pytest(program_text("suites/adopt/torch_deaths", ONLY=only), "--junitxml=report.xml", plugins=ADOPT)
    result.assert_outcomes(failed=len(deaths), passed=1)
    failures = {
        str(case.get("name")): str(found.text)
        for case in ET.parse("report.xml").iter("testcase")
        for found in case.iter("failure")
    }
    ends = {"kill": "SIGKILL (9), in call", "segfault": "SIGSEGV (11), in call", "exit_seven": "exit 7, in call"}
    ends["exit_early"] = "exit 0 before the end of the test, in call"
    for death in deaths:
        text = failures["test_" + death.id.replace("-", "_")]
        if death.die in ends:
            assert f"rank {death.rank}: {ends[death.die]}  <- root cause\n" in text
            assert f"last words of {death.rank}\n" in text
        else:
            assert f"rank {death.rank}: hung in call\n" in text
            assert " in hang_in_c\n" in text


def test_a_class_with_methods_of_its_own_runs_as_ever_and_is_named(run_pytest: RunPytest) -> None:
    """Only classes whose processes run torch's own methods are adopted."""
    result = run_pytest(OWN_METHODS, plugins=ADOPT, conftest=BY_FORK)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "derail adopted 1 class, 1 test on warm ranks",
            "derail did not adopt:",
            "  TestOwnRun: its _run is not torch's own, but that of TestOwnRun: 1 test",
            "  TestOwnLoop: its _worker_loop is not torch's own, but that of TestOwnLoop: 1 test",
        ]
    )


def test_a_report_changes_nothing(run_pytest: RunPytest) -> None:
    """It says which classes would be adopted, and which not, and all run under their own runner."""
    result = run_pytest(OWN_METHODS, "--derail-adopt=report", conftest=BY_FORK)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "derail would adopt 1 class, 1 test on warm ranks:",
            "  TestOnRanks (MultiProcessTestCase): 1 test",
            "derail would not adopt:",
            "  TestOwnRun: its _run is not torch's own, but that of TestOwnRun: 1 test",
            "  TestOwnLoop: its _worker_loop is not torch's own, but that of TestOwnLoop: 1 test",
        ]
    )
    assert "derail adopted" not in result.stdout.str()


@pytest.mark.parametrize(("ini", "option", "is_on"), [("yes", "", True), ("true", "--derail-adopt=no", False)])
def test_a_setting_does_the_same_as_the_plugin(run_pytest: RunPytest, ini: str, option: str, is_on: bool) -> None:
    """The command line wins over the ini file. Filters of warnings do not reach ranks, as no own process has them."""
    strict = "filterwarnings = error:from a rank" if is_on else ""
    options = [option] if option else []
    result = run_pytest(OWN_METHODS, "-k", "OnRanks", *options, ini=f"derail_adopt = {ini}\n{strict}", conftest=BY_FORK)
    result.assert_outcomes(passed=1, deselected=2)
    assert ("derail adopted 1 class, 1 test on warm ranks" in result.stdout.lines) is is_on


def test_another_value_of_the_setting_is_refused(run_pytest: RunPytest) -> None:
    """The message has the values that exist."""
    result = run_pytest("", "--derail-adopt=always")
    result.stderr.fnmatch_lines(["*--derail-adopt: expected yes, no or report, got 'always'"])


def test_the_marker_on_such_a_class_is_refused_with_the_remedy(run_pytest: RunPytest) -> None:
    """Each of its ranks would start the processes of the class again."""
    result = run_pytest(program_text("suites/adopt/hangs"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"*TestProcesses::test_*: @pytest.mark.ranks on a MultiProcessTestCase, which starts processes *; {REMEDY}"]
    )


def test_hangs_and_deaths_are_no_expected_failures(run_pytest: RunPytest) -> None:
    """A hang fails one test, with the stacks of its ranks; torch skips the rest of a class of continuous tests.

    The marker sets the time limit, and cannot change the number of ranks.
    """
    result = run_pytest(program_text("suites/adopt/hangs"), "-rA", plugins=ADOPT)
    result.assert_outcomes(failed=5, xfailed=2, skipped=1)
    result.stdout.fnmatch_lines_random(
        [
            "FAILED *::TestProcesses::test_hangs - not over after 2 s: rank 1 hung",
            "FAILED *::TestProcesses::test_expected_death - rank 0: SIGKILL (9), in call",
            "FAILED *::TestProcesses::test_death_with_marker - rank 0: SIGKILL (9), in call",
            "FAILED *::TestProcesses::test_of_another_size - *: expected 2 ranks, as the test itself starts, got 3",
            "FAILED *::TestContinuous::test_a_hangs - not over after 2 s: rank 1 hung",
            "SKIPPED * Previous test failed, skipping *test_b_is_skipped",
            "XFAIL *::TestProcesses::test_expected_error*",
            "XFAIL *::TestProcesses::test_error_with_marker*",
            "rank 1: hung in call",
        ]
    )


def test_the_page_shows_what_happens(run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its suite, adopted, prints the lines that it shows, except those with times and paths."""
    monkeypatch.setenv("COLUMNS", "80")
    blocks = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    suite, _, adopted = blocks[:3]
    result = run_pytest(suite, "--show-capture=no", plugins=ADOPT)
    result.assert_outcomes(failed=1, passed=2)
    shown = [line for line in adopted.splitlines() if re.match(r"(rank 1: |derail|_+ Test)", line)]
    assert len(shown) == 5
    assert [line for line in shown if line not in result.stdout.lines] == []
