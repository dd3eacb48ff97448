"""Hooks around the body of a test run in the ranks; their second run in pytest's own process hides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

NEW_STYLE = """
@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        yield
    except BaseException:
        if item.name.startswith("test_swallowed") or "RANK" not in os.environ:
            return None
        raise
"""
OLD_STYLE = """
@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_call(item):
    outcome = yield
    if item.name.startswith("test_swallowed") or "RANK" not in os.environ:
        outcome.force_result(None)
    elif outcome.excinfo and item.name.startswith("test_replaced"):
        outcome.force_exception(ValueError("by the hook"))
"""


@pytest.mark.parametrize("hook", [NEW_STYLE, OLD_STYLE], ids=["wrapper", "hookwrapper"])
@pytest.mark.parametrize("marker", ["ranks(2)", "ranks(2, reuse='module')"], ids=["warm", "reused"])
def test_a_hook_that_swallows_in_pytests_own_process_hides_nothing(run_pytest: RunPytest, hook: str, marker) -> None:
    """Failures, deaths, skips and unexpected successes of ranks count; exceptions swallowed in ranks do not."""
    ran = run_pytest(
        program_text("suites/ranks/swallowed").replace("ranks(2)", marker),
        conftest=f"import os\nimport pytest\n{hook}",
    )
    ran.assert_outcomes(failed=4, skipped=1, xfailed=1, passed=1)
    ran.stdout.fnmatch_lines_random(
        [
            "FAILED *::test_fails - rank 1: *",
            "FAILED *::test_dies - rank 1: SIGKILL*",
            "FAILED *::test_passes_unexpectedly - *XPASS(strict)*",
            "FAILED *::test_swallowed_and_expected - *XPASS(strict)*",
        ]
    )


def test_a_hook_that_replaces_exceptions_replaces_them_in_ranks_only(run_pytest: RunPytest) -> None:
    """The xfail marker is compared with the exception of the hook in the rank."""
    ran = run_pytest(
        """
import pytest

pytestmark = pytest.mark.ranks(2)


@pytest.mark.xfail(raises=ValueError, strict=True)
def test_replaced_as_expected():
    assert False


@pytest.mark.xfail(raises=AssertionError, strict=True)
def test_replaced_by_another():
    assert False
""",
        conftest=f"import os\nimport pytest\n{OLD_STYLE}".replace('or "RANK" not in os.environ', ""),
    )
    ran.assert_outcomes(failed=1, xfailed=1)
    ran.stdout.fnmatch_lines(["FAILED *::test_replaced_by_another - *ValueError: by the hook*"])


def test_a_hook_that_fails_a_test_in_pytests_own_process_fails_it(run_pytest: RunPytest) -> None:
    """It may check the results of ranks, also if they skip."""
    ran = run_pytest(
        """
import pytest

pytestmark = pytest.mark.ranks(2)


def test_passes():
    pass


def test_skips():
    pytest.skip("as it is")
""",
        conftest="""
import os
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    yield
    if "RANK" not in os.environ:
        pytest.fail("the hook says no")
""",
    )
    ran.assert_outcomes(failed=2)
