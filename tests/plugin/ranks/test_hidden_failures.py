"""Failures of ranks that a marker, a skip on another rank, or the end of the test could hide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

PRELUDE = program_text("suites/ranks/ends")


def test_an_xfail_marker_is_about_what_ranks_raise(run_pytest: RunPytest) -> None:
    """A death and a hang fail the test, unless the marker names them."""
    result = run_pytest(program_text("suites/ranks/expected_failures"))
    result.assert_outcomes(xfailed=2, failed=3)
    result.stdout.fnmatch_lines(["xfail *xfail(raises=pytest_derail.RanksFailed)*"] * 3)


@pytest.mark.parametrize("reuse", ["", ", reuse='module'"])
def test_a_skip_on_one_rank_hides_no_hang_of_another(run_pytest: RunPytest, reuse: str) -> None:
    """The other ranks have the timeout of the test: a slow one passes, an endless one has hung."""
    result = run_pytest(
        PRELUDE
        + f"""
@pytest.mark.ranks(2, timeout=4{reuse})
def test_hangs(rank):
    if rank == 0:
        pytest.skip("not here")
    hang()

@pytest.mark.ranks(2, timeout=100{reuse})
def test_takes_its_time(rank, tmp_path):
    if rank == 0:
        pytest.skip("not here")
    threading.Event().wait(2)
    print("came to its end")
""",
        "-rsP",
        "--derail-grace=2",
        conftest="from pytest_derail.ranks import controller\nfrom pytest_derail.ranks.pool import pool\n"
        "pool.SETTLE_SECONDS = controller.SETTLE_SECONDS = 0.1\n",
    )
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        ["not over after 4 s: rank 1 hung", "rank 0: skipped: not here", "rank 1: hung in call"]
    )
    result.stdout.fnmatch_lines(["SKIPPED * rank 0: not here"])


def test_a_thread_that_outlives_the_test_keeps_its_rank(run_pytest: RunPytest) -> None:
    """A non-daemon thread keeps its rank alive: unless it ends in time, a hang with its stack."""
    result = run_pytest(program_text("suites/ranks/late_threads"))
    result.assert_outcomes(passed=3, failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_reused_ranks*", "rank 1: did not end after the test*", "*in waits_for_ever"]
    )
    result.stdout.fnmatch_lines(["*_ test_own_ranks _*", "rank 1: did not end after the test*", "*in waits_for_ever"])


REPLACED = {
    "getpid": "os, 'getpid', lambda: 4242",
    "open": "os, 'open', lambda *_, **__: 1",
    "write": "os, 'write', lambda fd, data: len(data)",
    "dumps": "pickle, 'dumps', lambda *_, **__: b''",
}
"""What tests put in place of functions by which processes write, until their monkeypatch is undone."""


@pytest.mark.parametrize("reuse", ["", ", reuse='module'"])
@pytest.mark.parametrize("what", REPLACED)
def test_what_a_test_replaces_in_its_process_hides_no_failure_of_it(
    run_pytest: RunPytest, what: str, reuse: str
) -> None:
    """A rank records how the test went while its monkeypatch still holds. A failure stays one, a pass stays one, and so
    does the failure of a child that the test has forked."""
    result = run_pytest(
        f"""
import os, pickle
import pytest

pytestmark = pytest.mark.ranks(2{reuse})

def test_passes(rank, monkeypatch):
    monkeypatch.setattr({REPLACED[what]})

def test_fails(rank, monkeypatch):
    monkeypatch.setattr({REPLACED[what]})
    assert rank == 2

def test_child_fails(rank, monkeypatch):
    monkeypatch.setattr({REPLACED[what]})
    child = os.fork()
    assert child
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 1
"""
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.re_match_lines([r"FAILED .*::test_fails - rank [01]: assert [01] == 2"])
