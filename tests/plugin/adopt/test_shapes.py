"""Adoption by shape: classes of other versions of torch, in an interpreter without torch."""

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


@pytest.mark.parametrize("eager", [False, True], ids=["first_test", "set_up_of_the_class"])
def test_continuous_tests_of_other_versions_of_torch(
    run_pytest: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, eager: bool
) -> None:
    """Processes may start with the class or with its first test; each rank is initialised once, in one run.

    Verdicts are those of the own processes, also after a failure.
    """
    folder = pytester.mkpydir("torch").joinpath("testing", "_internal")
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        package.joinpath("__init__.py").touch()
    folder.joinpath("common_distributed.py").write_text(program_text("suites/adopt/shapes_of_torch", EAGER=eager))
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    suite = program_text("suites/adopt/continuous")
    logs = {way: tmp_path / way for way in ("own", "ranks")}
    monkeypatch.setenv("SUITE_LOG", str(logs["own"]))
    run_pytest(suite, "--junitxml=own.xml")
    monkeypatch.setenv("SUITE_LOG", str(logs["ranks"]))
    result = run_pytest(suite, "--junitxml=ranks.xml", plugins=("pytest_derail.adopt",))
    result.assert_outcomes(passed=3, skipped=2, failed=1)
    assert outcomes("ranks.xml") == outcomes("own.xml")
    assert [sorted(log.read_text().splitlines()) for log in logs.values()] == [["0 of 2", "1 of 2"]] * 2
    result.stdout.fnmatch_lines(["rank 1: failed in call: assert 1 == 0  <- root cause"])
    result.stdout.fnmatch_lines(["derail adopted 1 class, 5 tests on warm ranks"])
