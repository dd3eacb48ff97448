"""Jobs of a launcher that starts fewer ranks than it should."""

import pytest
from launchers import KILL, SOME, WORKER

from derail import faults, when
from pytest_derail import (
    assert_exit_code,
    assert_injected,
    assert_leftovers,
    assert_log_tail,
    assert_only_failed,
    assert_timed_out,
)


def test_evidence(derail):
    outcome = derail.agent(
        [*SOME, "2", "3", "kept", "{command}"], WORKER, args=["900"], ranks=3, faults=[KILL], timeout=4
    )
    assert_log_tail(outcome, 1, like=["step 3"])
    assert_injected(outcome, KILL)
    assert_timed_out(outcome)
    with pytest.raises(AssertionError, match="rank 2 of 3 was never seen"):
        assert_only_failed(outcome, outcome.failed)


def test_killed_agent(derail):
    kill = faults.signal("SIGKILL", rank="the agent", when=when.line("step 3", rank=0))
    outcome = derail.agent([*SOME, "2", "0", "kept", "{command}"], WORKER, args=["900"], ranks=3, faults=[kill])
    assert_injected(outcome, kill)
    assert_leftovers(outcome, ["*", "*"])
    with pytest.raises(AssertionError, match="rank 2 of 3 was never seen"):
        assert_only_failed(outcome, outcome.failed)
    with pytest.raises(AssertionError, match="rank 2 of 3 was never seen"):
        assert_exit_code(outcome, 128 + 9)
