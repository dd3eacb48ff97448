"""Helpers that end by themselves are no leftovers: pools, managers, shared memory, joblib and data loaders on ranks, by
every way to start them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugin.ranks import users_of_helpers

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

SOURCE = Path(users_of_helpers.__file__)
FEW = ("executor forkserver", "manager spawn", "shared_memory ", "joblib ")


def run_tests(run_pytest: RunPytest, pytester: pytest.Pytester, body: str, *, uses: tuple[str, ...]) -> None:
    """Run ``body`` for each use in a separate pytest; all must pass and leave nothing."""
    pytester.path.joinpath("users.py").write_text(SOURCE.read_text())
    cases = f'import pytest, users\npytestmark = pytest.mark.parametrize("what", {uses!r})\n'
    result = run_pytest(cases + body, "-p", "no:randomly")
    result.assert_outcomes(passed=len(uses))
    assert ", 0 leftovers" in result.stdout.str()


@pytest.mark.parametrize("options", ["", ", reuse='module'"])
def test_the_marker_lets_helpers_end(run_pytest: RunPytest, pytester: pytest.Pytester, options: str) -> None:
    """On ranks of one test, and on reused ranks, where helpers stay with their rank."""
    body = f"""
@pytest.mark.ranks(2, timeout=100{options})
def test_use(rank, what):
    users.use(what)
"""
    run_tests(run_pytest, pytester, body, uses=users_of_helpers.USES)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver", "warm"])
def test_the_fixture_lets_helpers_end(run_pytest: RunPytest, pytester: pytest.Pytester, method: str) -> None:
    """With each start method."""
    body = f"""
def test_use(derail, what):
    derail.run(users.use, ranks=2, args=(what,), start_method={method!r})
"""
    run_tests(run_pytest, pytester, body, uses=FEW)


@pytest.mark.torch
@pytest.mark.parametrize("context", [*users_of_helpers.CONTEXTS, "file_system"])
def test_data_loaders_leave_nothing(run_pytest: RunPytest, pytester: pytest.Pytester, context: str) -> None:
    """Workers with each context, and torch's shared-memory manager, which removes its directory."""
    body = """
@pytest.mark.ranks(2, timeout=100)
def test_use(rank, what):
    users.use(what)
"""
    run_tests(run_pytest, pytester, body, uses=(f"loader {context}",))


@pytest.mark.parametrize("what", FEW)
def test_a_program_lets_helpers_end(tmp_path: Path, what: str) -> None:
    """``derail run`` checks for leftovers and finds none."""
    scenario = tmp_path / "helpers.toml"
    scenario.write_text(
        f"""
title = "Helpers end by themselves"
worker = {str(SOURCE)!r}
args = [{what!r}]
ranks = 2

[expect]
succeeded = true
"""
    )
    command = [
        str(Path(sys.executable).with_name("derail")),
        "run",
        str(scenario),
        "--output-dir",
        str(tmp_path / "kept"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
