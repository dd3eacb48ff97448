"""Functions as ranks: the same outcomes as programs, and values of any kind."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import pytest

import rank_functions
from derail import ChildFailedError
from derail.spawn.zygote import pool

METHODS = ["spawn", "fork", "forkserver", "warm"]


@pytest.fixture(params=METHODS)
def run(request, jobs):
    """Run a function on ranks and return the result."""

    def start(function, *args, ranks=2, **beyond):
        beyond.setdefault("start_method", request.param)
        return jobs.start(function, ranks, args=dict.fromkeys(range(ranks), args), **beyond)

    return start


def test_values_arrive_by_rank(run):
    """The return value of each rank, whatever it is."""
    result = run(rank_functions.give, {"loss": 0.5}).wait(60)
    assert result.return_values == {0: {"loss": 0.5}, 1: {"loss": 0.5}}


def test_a_large_value_blocks_no_rank(run):
    """64 MiB from each of two ranks."""
    result = run(rank_functions.give_bytes, 64 << 20).wait(120)
    assert {rank: len(value) for rank, value in result.return_values.items()} == {0: 64 << 20, 1: 64 << 20}


def test_a_value_that_cannot_be_pickled_fails_with_a_reason(run):
    """The failure names the value, and is no success."""
    result = run(rank_functions.give_generator, ranks=1).wait(60)
    assert "pickle" in str(ChildFailedError("job", result.failures))
    assert result.return_values == {}


def test_a_value_that_cannot_be_unpickled_here_is_a_failure(run):
    """A value that the launcher cannot read was not returned."""
    result = run(rank_functions.give_what_breaks_on_arrival, ranks=1).wait(60)
    assert (list(result.failures), result.return_values, result.root_cause) == ([0], {}, 0)
    assert "not here" in str(ChildFailedError("job", result.failures))


def test_a_rank_that_is_killed_while_sending_failed_as_killed(run):
    """Half a value is no value."""
    result = run(rank_functions.die_while_returning, ranks=1).wait(60)
    assert (result.failures[0].exitcode, result.return_values) == (-signal.SIGKILL, {})


@pytest.mark.parametrize(
    ("how", "exitcode"),
    [("sys.exit()", 0), ("os._exit(0)", 0), ("sys.exit(3)", 3), ("sys.exit('message')", 1), ("os._exit(7)", 7)],
)
def test_leaving_without_a_value_is_an_outcome_at_once(run, how, exitcode):
    """No way of exiting hangs the launcher; code 0 without a value is a failure of its own kind."""
    result = run(leave, how, ranks=2).wait(60)
    assert result is not None
    first = result.failures[result.root_cause]
    assert first.exitcode == exitcode
    assert ("without returning" in str(ChildFailedError("job", result.failures))) == (exitcode == 0)
    assert result.exit_code == (exitcode or 1)


def leave(how):
    """Exit in a way given as source; importable, since this module is."""
    exec(f"import os, sys; {how}")


def test_sys_exit_0_is_a_return_of_none(run):
    """As torch documents for ``record``: SystemExit with code 0 is a success."""
    assert run(leave, "sys.exit(0)").wait(60).return_values == {0: None, 1: None}


@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "os.kill(os.getpid(), 2)"])
def test_an_interrupt_is_an_outcome_at_once(run, how):
    """A rank that is interrupted dies of SIGINT and blocks no other rank."""
    result = run(leave, how).wait(60)
    first = result.failures[result.root_cause]
    # Busy machine: it recorded the interrupt, and had not ended when it was asked to end.
    assert first.exitcode in {-signal.SIGINT, 1} or "it had recorded its error" in first.reason


def test_an_exception_is_reported_with_its_traceback(run):
    """Functions are recorded without being decorated."""
    result = run(leave, "raise ValueError('boom')", ranks=1).wait(60)
    failure = result.failures[0]
    assert failure.message["message"] == "ValueError: boom"
    assert "boom" in str(ChildFailedError("job", result.failures))


def test_a_crash_after_the_return_is_a_crash(run):
    """The value was complete; the process still died of a signal."""
    result = run(rank_functions.crash_after_return, ranks=1).wait(60)
    assert list(result.failures) == [0]
    assert result.failures[0].exitcode < 0


def test_functions_fail_like_programs_do(run):
    """Several failures are several; the others are in ``stopped``."""
    result = run(fail_by_rank, ranks=3).wait(60)
    assert (result.root_cause, result.failures[1].exitcode, sorted(result.stopped)) == (1, 5, [0, 2])


def fail_by_rank():
    """Exit with 5 as rank 1, wait for ever as another one."""
    import threading

    if os.environ["RANK"] == "1":
        os._exit(5)
    threading.Event().wait()


def test_the_environment_is_there_at_import(run):
    """Module-level code of the rank's function has RANK."""
    result = run(rank_functions.import_time_environment, start_method="spawn").wait(60)
    assert {rank: seen[0]["RANK"] for rank, seen in result.return_values.items()} == {0: "0", 1: "1"}


def test_why_a_warm_rank_was_spawned_is_in_the_outcome(jobs, monkeypatch, tmp_path):
    """A preload that starts a thread: the job runs normally, and each outcome states that the rank was not forked."""
    (tmp_path / "with_a_thread.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = jobs.start(
        rank_functions.give, args={0: (1,), 1: (2,)}, start_method="warm", preload=["with_a_thread"]
    ).wait(60)

    reason = "preloaded modules have started 1 thread(s), which a fork would not have"
    assert (result.return_values, {fate.spawned_because for fate in result.ranks.values()}) == (
        {0: 1, 1: 2},
        {reason},
    )


@pytest.mark.parametrize(
    ("method", "preload", "error", "words"),
    [
        ("warm", "torch", TypeError, "preload is 'torch'; it must be a list of names of modules"),
        ("warm", [1], TypeError, "must be a list of names"),
        ("spawn", ["torch"], ValueError, "with 'spawn' nothing is preloaded"),
    ],
)
def test_an_invalid_preload_is_refused(jobs, method, preload, error, words):
    """Before anything is started."""
    with pytest.raises(error, match=words):
        jobs.start(rank_functions.give, args={0: (1,), 1: (1,)}, start_method=method, preload=preload)


def test_ranks_behind_one_that_cannot_be_started_never_run(jobs, tmp_path, wait_until):
    """Warm ranks are made ready concurrently; the ready ones end without having run anything."""
    args = {rank: (tmp_path / str(rank),) for rank in range(4)}
    with pytest.raises(pickle.PicklingError, match="rank 1"):
        jobs.start(rank_functions.touch, 4, args={**args, 1: (lambda: None,)}, start_method="warm")
    (server,) = pool.kept()
    wait_until(lambda: not Path(f"/proc/{server}/task/{server}/children").read_text(), what="the end of all ranks")

    assert not (tmp_path / "2").exists()
    assert not (tmp_path / "3").exists()
