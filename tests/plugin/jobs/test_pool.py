"""``derail.pool(n)``: functions on ranks that stay, in a pytest of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

POOLS = program_text("suites/jobs/pools")


def test_calls_on_ranks_that_stay(run_pytest: RunPytest) -> None:
    """Order, rounds, values, exceptions, and new ranks after a death or a hang, with each start method."""
    run_pytest(POOLS, "-k", "not bad and not torch", "-rA").assert_outcomes(passed=11)


@pytest.mark.torch
def test_a_process_group_serves_all_calls(run_pytest: RunPytest) -> None:
    """It is initialised once, from the environment of the ranks."""
    run_pytest(POOLS, "-k", "torch").assert_outcomes(passed=1)


def test_a_death_is_reported_with_the_evidence_of_the_job(run_pytest: RunPytest) -> None:
    """Its exit status, its last lines and its journal."""
    result = run_pytest(POOLS, "-k", "bad_death")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *RanksFailed: pool.map(dies): rank 1: SIGKILL (9), by itself (was running item 1)",
            "*derail: job 0 (pool, 2 ranks)*",
            "root cause: rank 1",
            "*rank 1, last lines of stdout*",
            "about to die 1",
            "journal: *journal.jsonl",
        ]
    )
    assert "assert_failed(result" not in result.stdout.str()


def test_a_hang_is_reported_with_stacks(run_pytest: RunPytest) -> None:
    """Of the rank that did not return, at its line."""
    result = run_pytest(POOLS, "-k", "bad_hang", "--derail-grace=0.5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *RanksFailed: pool.map(hangs): not over after 2 s: rank 1 was running item 1",
            "*rank 1: where it was*",
            '*test_it.py", line * in hangs',
        ]
    )


def test_an_exception_is_reported_with_the_traceback_of_its_rank(run_pytest: RunPytest) -> None:
    """As the cause of the exception, with a note that names the rank."""
    result = run_pytest(POOLS, "-k", "bad_exception")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*RankTraceback: rank 1, item 1 of pool.map(fails):",
            '    raise ValueError(f"bad {item}")',
            "The above exception was the direct cause of the following exception:",
            "E *ValueError: bad 1",
            "E *raised on rank 1, item 1 of pool.map(fails)",
        ]
    )


def test_a_failure_at_the_exit_of_a_rank_fails_the_test(run_pytest: RunPytest) -> None:
    """No call has reported it."""
    result = run_pytest(POOLS, "-k", "bad_exit")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*job 0 (pool): rank 0: exit 5, by itself; unexpected*"])
