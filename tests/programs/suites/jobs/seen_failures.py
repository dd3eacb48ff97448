"""Failures of ranks that a test looks at, expects, or does not wait for."""

import pytest
from steps import FAIL

from derail import faults, when
from pytest_derail import assert_failed, assert_not_injected, assert_only_failed, assert_root_cause, assert_timed_out

KILL = faults.signal("KILL", rank=1, when=when.line("x"))


def test_one(derail):
    assert_failed(derail.run(FAIL), 1, exit_code=3)


def test_only(derail):
    assert_only_failed(derail.run(FAIL), {1})


def test_root_cause(derail):
    assert_root_cause(derail.run(FAIL), 1)


def test_said_before(derail):
    derail.start(FAIL).expect_failure(1).wait()


def test_said_of_any(derail):
    derail.start(FAIL).expect_failure().wait()


def test_said_with_the_job(derail):
    assert derail.run(FAIL, expect_failure=[1]).root_cause == 1
    assert derail.run(FAIL, expect_failure=True).root_cause == 1


def test_timed_out(derail):
    assert_timed_out(derail.run(["sleep", "600"], timeout=0.1))


def test_not_waited_for(derail):
    derail.start(["sleep", "600"])


def test_stopped(derail):
    derail.start(["sleep", "600"]).stop()


def test_not_injected(derail):
    assert_not_injected(derail.run("true", faults=[KILL]), KILL)


def test_skipped(derail):
    derail.run(FAIL)
    pytest.skip("no such machine")


def test_known(derail):
    derail.run(FAIL)
    pytest.xfail("known")


@pytest.mark.xfail(strict=True)
def test_known_by_mark(derail):
    derail.run(FAIL)
