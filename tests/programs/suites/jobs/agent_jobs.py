"""Jobs of an external launcher, each with what its test asserts."""

import pytest
from launchers import DECLARED, HONEST, KILL, LAUNCHER, WORKER

from derail import faults, when
from pytest_derail import (
    assert_exit_code,
    assert_failed,
    assert_injected,
    assert_log_tail,
    assert_no_leftovers,
    assert_only_failed,
    assert_restarts,
    assert_signals_sent,
    assert_stopped,
    assert_succeeded,
    assert_timed_out,
)


def test_it_succeeds(derail):
    outcome = derail.agent(HONEST, WORKER, args=["3"], declaration=DECLARED)
    assert_succeeded(outcome)
    assert_exit_code(outcome, 0)
    assert_log_tail(outcome, 1, like=["step 2"])
    assert_no_leftovers(outcome)


def test_the_killed_rank_is_blamed(derail):
    outcome = derail.agent(HONEST, str(WORKER), args=["900"], faults=[KILL], grace=1, declaration=DECLARED)
    assert_failed(outcome, 1, signal="SIGKILL", message="it failed")
    assert_stopped(outcome, {0})
    assert_signals_sent(outcome, 0, ["SIGTERM"])
    assert_exit_code(outcome, 128 + 9)
    assert_restarts(outcome, 0)
    assert_injected(outcome, KILL)
    assert outcome.workdir == derail.workdir / "job-0"


def test_it_starts_them_again(derail):
    kill = faults.signal("SIGKILL", rank=1, when=when.call("__main__:work", hit=3))  # where it stays until it is hit
    outcome = derail.agent(HONEST, WORKER, args=["20"], faults=[kill], restarts=1, declaration=DECLARED)
    assert_restarts(outcome, 1)
    assert_exit_code(outcome, 0)


def test_the_agent_itself_is_broken(derail):
    stop = faults.signal("SIGTERM", rank="the agent", when=when.line("step 3", rank=0))
    outcome = derail.agent(HONEST, WORKER, args=["900"], faults=[stop])
    assert_injected(outcome, stop)
    assert outcome.exit_code
    assert_exit_code(outcome, outcome.exit_code)
    assert_only_failed(outcome, ())


@pytest.mark.faults(KILL)
def test_a_command_that_knows_all_itself(derail):
    outcome = derail.agent([*LAUNCHER, "2", "0", "1", WORKER, "900"])
    assert outcome.ranks[1].status.signal == 9
    assert_only_failed(outcome, {1})
    assert_injected(outcome)


def test_it_takes_too_long(derail):
    outcome = derail.agent([*LAUNCHER, "1", "0", "1", WORKER, "900"], ranks=1, timeout=1)
    assert_timed_out(outcome)
    assert_only_failed(outcome, outcome.failed)
