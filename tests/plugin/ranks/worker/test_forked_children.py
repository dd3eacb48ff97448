"""Exit codes of children that a test on ranks forks and that return from the test's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

PRELUDE = program_text("suites/worker/children")


@pytest.mark.parametrize("mark", ["'spawn'", "'fork'", "'forkserver'", "'warm'", "'warm', reuse='module'"])
def test_a_forked_child_exits_as_the_test_went_in_it(run_pytest: RunPytest, mark: str) -> None:
    """1 after a failure, the code of a sys.exit, else 0; only the rank tears fixtures down."""
    result = run_pytest(
        PRELUDE
        + f"""
@pytest.mark.ranks(1, start_method={mark})
def test_it(rank, torn_down):
    for run, code in CASES:
        pid = os.fork()
        if pid == 0:
            run()
            return
        assert (run.__name__, exit_status(pid)) == (run.__name__, code)
    print("rank", os.getpid())
""",
        "-rP",
    )
    result.assert_outcomes(passed=1)
    lines = [line.split() for line in result.outlines]
    rank = next(line[1] for line in lines if line[:1] == ["rank"] and len(line) == 2)
    assert [line[3:] for line in lines if line[:3] == ["torn", "down", "by"]] == [[rank]]
    result.stdout.fnmatch_lines(["forked child (pid *): failed in call", ">*assert 1 == 2*", "E *assert 1 == 2"])


def test_a_child_that_is_forked_in_a_fixture_ends_with_that_phase(run_pytest: RunPytest) -> None:
    """It runs neither the body nor the tear-down."""
    result = run_pytest(
        program_text("suites/worker/forking_fixtures"),
        "-rP",
    )
    result.assert_outcomes(passed=1)
    assert result.outlines.count("body of 0") == 1


def test_a_child_that_fails_makes_the_check_of_its_parent_fail(run_pytest: RunPytest) -> None:
    """The rank's stderr has its failure."""
    result = run_pytest(
        PRELUDE
        + """
@pytest.mark.ranks(2)
def test_it(rank):
    if rank == 1:
        pid = os.fork()
        assert pid, "the child's own"
        assert exit_status(pid) == 0
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["rank 1: failed in call: assert 1 == 0*<- root cause", "forked child (pid *): failed in call", "E *own"]
    )


def test_subtests_and_test_cases_in_a_child_are_its_own(run_pytest: RunPytest) -> None:
    """They make it exit with 1, and the rank reports none of them."""
    result = run_pytest(
        program_text("suites/worker/subtests"),
    )
    result.assert_outcomes(passed=2)
