"""Suites with classes of the shape of DeepSpeed's, adopted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from plugin.adopt.junit import outcomes
from program_files import program_text

if TYPE_CHECKING:
    from pathlib import Path

    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.torch

ADOPT = ("pytest_derail.adopt",)
HOOKS = program_text("suites/adopt/distributed_conftest")


@pytest.fixture(autouse=True)
def common(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of the suite with its launching classes, and one thread for each rank."""
    pytester.makepyfile(common=program_text("suites/adopt/distributed_common"))
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_verdicts_are_those_of_the_own_launcher(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Parameters, sizes, skips, expected failures, fixtures on ranks, and both ways to launch.

    With ``reuse_dist_env`` the tests of a class run in the same processes.
    """
    suite = program_text("suites/adopt/distributed")
    run_pytest(suite, "--junitxml=own.xml", conftest=HOOKS)
    monkeypatch.setenv("SUITE_LOG", str(tmp_path / "pids"))
    result = run_pytest(suite, "--junitxml=ranks.xml", conftest=HOOKS, plugins=ADOPT)
    verdicts = outcomes("ranks.xml")
    assert verdicts == outcomes("own.xml")
    assert len(verdicts) > 20
    assert list(verdicts.values()).count("passed") == 15
    assert len(set((tmp_path / "pids").read_text().split())) == 2
    result.stdout.fnmatch_lines(["rank 1: failed in call: AssertionError: only the first  <- root cause"])
    result.stdout.fnmatch_lines(["derail adopted 6 classes, 20 tests on warm ranks"])


def test_a_hang_fails_its_test_and_the_session_goes_on(run_pytest: RunPytest) -> None:
    """The own launcher ends the session, after the same time."""
    suite = program_text("suites/adopt/distributed", HANGS=True)
    own = run_pytest(suite, "-k", "TestHang", conftest=HOOKS)
    own.assert_outcomes(deselected=20)
    own.stdout.fnmatch_lines(["*Exit: a test hangs*"])
    result = run_pytest(suite, "-k", "TestHang", conftest=HOOKS, plugins=ADOPT)
    result.assert_outcomes(failed=1, passed=1, deselected=20)
    result.stdout.fnmatch_lines(
        ["not over after 4 s: rank 1 hung; rank 0 has finished the test after barrier #1", "rank 1: hung in call"]
    )
