"""Failures in the last tear-down of reused ranks, and the tests that get them as errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_files import program_text

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

PRELUDE = program_text("suites/ranks/resources")


@pytest.mark.parametrize("reuse", ["module", "session"])
def test_the_last_tear_down_is_the_business_of_the_last_test_on_these_ranks(run_pytest: RunPytest, reuse: str) -> None:
    """A failure is an error of that test, with the rank, even if other tests ran later."""
    result = run_pytest(
        PRELUDE
        + f"""
@ranks({reuse!r})
def test_first({reuse}_resource):
    pass

@ranks({reuse!r})
def test_last({reuse}_resource):
    pass

def test_without_ranks():
    pass

@pytest.mark.ranks(1)
def test_on_other_ranks():
    pass
""",
        "-rE",
    )
    result.assert_outcomes(passed=4, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_last*",
            f">*assert os.environ*{reuse}'s not released*",
            "rank 0: passed",
            f"rank 1: failed in teardown: AssertionError: {reuse}'s not released*<- root cause",
            f"ERROR *::test_last - rank 1: AssertionError: {reuse}'s not released",
        ]
    )


def test_ranks_of_the_session_end_before_the_session_is_over(run_pytest: RunPytest) -> None:
    """Also if pytest stops early: -x after a failure elsewhere, and --maxfail."""
    result = run_pytest(
        PRELUDE
        + """
@ranks("session")
def test_on_ranks(session_resource):
    pass

def test_fails():
    assert not "on purpose"

@ranks("session")
def test_never(session_resource):
    pass
""",
        "-x",
        "-rE",
    )
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(["ERROR *::test_on_ranks - rank 1: AssertionError: session's not released"])


def test_workers_of_xdist_report_the_last_tear_down(run_pytest: RunPytest) -> None:
    """Each worker reports its own ranks, with the name of its own last test."""
    result = run_pytest(
        PRELUDE
        + """
@ranks("session")
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_it(session_resource, number):
    pass
""",
        "-n",
        "2",
        "-rE",
        plugins=("xdist",),
    )
    result.assert_outcomes(passed=4, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR *::test_it* - *AssertionError: session's not released"] * 2)


@pytest.mark.parametrize(
    "body", ["assert rank", "threading.Thread(target=threading.Event().wait, daemon=True).start()"]
)
def test_ranks_that_are_replaced_report_their_last_tear_down(run_pytest: RunPytest, body: str) -> None:
    """After a test that failed, and after one that left something, it is an error of that test; the next has new
    ranks, and their own last tear-down."""
    result = run_pytest(
        PRELUDE
        + f"""
@ranks()
def test_replaces(rank, module_resource):
    {body}

@ranks()
def test_next(rank, module_resource):
    pass
""",
        "-rE",
    )
    fails = body.startswith("assert")
    result.assert_outcomes(passed=1 if fails else 2, failed=int(fails), errors=2)
    result.stdout.fnmatch_lines(
        [
            "ERROR *::test_replaces - rank 1: AssertionError: module's not released",
            "ERROR *::test_next - rank 1: AssertionError: module's not released",
        ]
    )


def test_what_the_next_test_has_no_use_for_is_torn_down_as_the_business_of_the_last(run_pytest: RunPytest) -> None:
    """A failing fixture of a finished class or module is no error of the next test on these ranks."""
    result = run_pytest(
        program_text("suites/ranks/class_resources"),
        "-rE",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["ERROR *::TestIt::test_in_class - rank 1: AssertionError: class's not*"])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "rank 1: SIGKILL (9), in teardown*"),
        ("threading.Event().wait()", "rank 1: hung in teardown*"),
        ("subprocess.Popen(['sleep', '600'])", "left behind: *sleep 600*"),
    ],
    ids=["death", "hang", "process"],
)
def test_a_death_a_hang_and_a_leftover_of_the_last_tear_down_are_errors(
    run_pytest: RunPytest, code: str, words: str
) -> None:
    """Like a failed assertion in it."""
    result = run_pytest(
        PRELUDE
        + f"""
@pytest.fixture(scope="module")
def resource(rank_number):
    yield
    if rank_number == 1:
        {code}

@pytest.fixture(scope="module")
def rank_number():
    return int(os.environ["RANK"])

@pytest.mark.ranks(2, reuse="module", timeout={5 if "wait" in code else 100}, in_ranks=["resource", "rank_number"])
def test_it(resource):
    print("of the test")
"""
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_it*", words])
    result.stdout.no_fnmatch_line("of the test")
