"""``derail.hold``, ``release`` and ``barrier``: ranks that stay where a test wants them, in real pytest runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

PRELUDE = program_text("suites/jobs/points")


def test_ranks_wait_at_a_point_until_they_are_released(run_pytest: RunPytest) -> None:
    """The test may act in between, in any order; other ranks continue."""
    result = run_pytest(program_text("suites/jobs/holds"))
    result.assert_outcomes(passed=7)


def test_a_hold_that_no_rank_reaches_fails_the_test(run_pytest: RunPytest) -> None:
    """With a misspelt name the test would pass for no reason."""
    result = run_pytest(program_text("suites/jobs/wrong_holds"))
    result.assert_outcomes(failed=6)
    result.stdout.fnmatch_lines(
        [
            "hold at point 'stop': no rank arrived: rank 0 returned before it arrived, rank 1 *",
            "E *SyncPointError: hold at point 'step' (hit 4): rank 1 returned before it arrived",
            "E *TimeoutError: hold at point 'never': rank 0 did not arrive within 0.1 s",
            "E *InputError: hold at point 'step': there is no rank 2",
            "E *InputError: expected a point or an in-rank trigger (when.call, when.import_of ...), got: after 3 s",
            "E *RuntimeError: hold: no job was started after it. Start the job first, then wait*",
        ]
    )


def test_ranks_meet_at_a_barrier(run_pytest: RunPytest) -> None:
    """No rank is a step ahead of the others, except after one has ended."""
    result = run_pytest(program_text("suites/jobs/barriers"))
    result.assert_outcomes(passed=3)
