"""Report of a test that hangs: the rank that the others wait for, and each stack once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]
SUITE = program_text("suites/ranks/hangs")


def test_the_report_of_a_hang_names_the_rank_that_the_others_wait_for(run_pytest: RunPytest) -> None:
    """With the collective, the place where it went, and the stacks of all ranks, equal ones once."""
    result = run_pytest(SUITE, "-k", "elsewhere")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "not over after 2 s: rank 0, 1, 2 hung; rank 1 never called it: after exchange #5 *evaluate() at *",
            "-* hang -*",
            "hang: ranks 0, 2 wait in exchange #6 (group 'halo', float32?8?) called at test_it.py:*",
            "      rank 1 never called it: after exchange #5 of group 'halo' it went to evaluate() at *   <- look here",
            "-* ranks 0, 2: where they were -*",
            "*, line * in exchange",
            "*, line * in test_one_goes_elsewhere",
            "-* rank 1: where it was -*",
            "*, line * in evaluate",
            "*agent: hang: ranks 0, 2 wait in exchange*",
            "FAILED *test_one_goes_elsewhere - not over after 2 s: *",
        ]
    )
    assert result.stdout.str().count(", line 13 in exchange") == 1


def test_a_rank_that_has_finished_the_test_is_named(run_pytest: RunPytest) -> None:
    """Reused ranks live on: the others wait for one that waits for its next test."""
    result = run_pytest(SUITE, "-k", "done")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "rank 2: passed",
            "hang: ranks 0, 1 wait in exchange #6 (group 'halo', float32?8?) called at test_it.py:*",
            "      rank 2 has finished the test after exchange #5 of group 'halo'   <- look here",
        ]
    )


def test_a_job_of_a_test_has_a_verdict_on_its_hang(run_pytest: RunPytest) -> None:
    """It is in the result, and in the report."""
    result = run_pytest(SUITE, "-k", "job")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*      rank 1 never called it: after exchange #5 *   <- look here"])
    assert "result.timed_out" in result.stdout.str()


@pytest.mark.parametrize("how", ["option", "environment", "ini"])
def test_without_records_a_hang_has_stacks_and_no_verdict(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The recorder can be switched off; then it is absent."""
    if how == "environment":
        monkeypatch.setenv("DERAIL_RECORD", "no")
    options = ["--derail-record=no"] if how == "option" else []
    result = run_pytest(SUITE, "-k", "elsewhere", *options, ini="derail_record = no" if how == "ini" else "")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["not over after 2 s: rank 0, 1, 2 hung", "-* rank 1: where it was -*"])
    result.stdout.no_fnmatch_line("*look here*")
