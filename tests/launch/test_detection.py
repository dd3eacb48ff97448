"""The exit of a rank is noticed at once, and polling changes nothing."""

from __future__ import annotations

import time

import pytest

HANG = "exec sleep 600"


def test_an_exit_wakes_the_caller_whatever_the_period_is(jobs):
    """A failure is reported long before ``period`` is over."""
    context = jobs.sh("exit 3")
    began = time.monotonic()
    result = context.wait(timeout=600, period=300)
    assert (result.failures[0].exitcode, time.monotonic() - began < 60) == (3, True)


def test_wait_returns_none_when_its_time_is_up_and_not_before(jobs):
    """``wait(t)`` ends at t, not at the next multiple of a period."""
    context = jobs.sh(HANG)
    began = time.monotonic()
    assert context.wait(timeout=0.2, period=60) is None
    assert 0.2 <= time.monotonic() - began < 50


def test_polling_does_not_affect_the_ranks(jobs):
    """``wait(0)`` does not affect the ranks, however often it is called."""
    context = jobs.sh(HANG, HANG)
    pids = context.pids()
    assert [context.wait(0) for _ in range(20)] == [None] * 20
    assert context.pids() == pids


def test_a_poll_includes_all_events_until_now(jobs, pid_gone):
    """Ranks that ended before ``wait(0)`` are in its result: no second call is needed."""
    context = jobs.sh("exit 0", "exit 0")
    assert all(pid_gone(pid) for pid in context.pids().values())
    result = context.wait(0)
    assert result is not None
    assert not result.is_failed()


def test_a_programs_success_is_a_value_of_none(jobs):
    """Each rank that succeeded has an entry, so that programs and functions look alike."""
    assert jobs.sh("exit 0", "exit 0").wait(60).return_values == {0: None, 1: None}


def test_every_call_returns_the_same_result_object(jobs):
    """Also a second ``wait``, and one after ``close``."""
    context = jobs.sh("exit 4", HANG)
    result = context.wait(60)
    context.close()
    assert context.wait(0) is result
    assert context.wait(5) is result


def test_waiting_for_a_job_that_was_never_started_returns_none(jobs):
    """A context that was only constructed has no result, no pids, and can be closed."""
    from derail import DefaultLogsSpecs, SubprocessContext

    context = SubprocessContext("job", "/bin/true", {0: ()}, {0: {}}, DefaultLogsSpecs())
    context.close()
    assert (context.wait(0), context.pids()) == (None, {})


def test_a_context_runs_once(jobs):
    """A second ``start`` is refused and has no effect."""
    context = jobs.sh("exit 0")
    with pytest.raises(ValueError, match="started before"):
        context.start()
    assert context.wait(60).succeeded
