"""The ``process_group`` fixture: torch's default group, per test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]


@pytest.mark.torch
def test_a_group_is_joined_before_the_test_and_left_after_it(run_pytest: RunPytest) -> None:
    """Collectives work; a failure of one rank is the root cause of the errors of the others."""
    result = run_pytest(program_text("suites/ranks/process_groups"))
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "rank 0: *",
            "rank 1: failed in call: ValueError: only here  <- root cause",
            "FAILED *test_one_fails - rank 1: ValueError: only here",
        ]
    )


def test_without_torch_the_test_is_skipped(run_pytest: RunPytest) -> None:
    """The others run."""
    result = run_pytest(
        """
import pytest

@pytest.mark.ranks(2)
def test_group(process_group):
    pass

@pytest.mark.ranks(2)
def test_other():
    pass
""",
        conftest="""
import sys
import pytest

@pytest.fixture(autouse=True)
def without_torch(request, monkeypatch):
    if request.node.name == "test_group":
        for name in ("torch", "torch.distributed"):
            monkeypatch.setitem(sys.modules, name, None)
""",
    )
    result.assert_outcomes(passed=1, skipped=1)
