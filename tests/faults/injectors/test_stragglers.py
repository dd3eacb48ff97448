"""Ranks slowed down from outside: observed in /proc, and restored afterwards."""

import os
import signal
import subprocess
import sys
import time

import pytest

from derail import faults, when
from derail.model.input_error import InputError
from faults.real_job import DEADLINE, ended, record_of, result_of, running, stat_of, state_of, unprivileged, wait_for

READY = when.line("ready")
THREADS = """
import threading
stop = threading.Event()
for _ in range(3): threading.Thread(target=stop.wait, daemon=True).start()
print("ready", flush=True)
time.sleep(60)
"""


def schedules(pid):
    """Return processors, nice value and policy of each thread of a process."""
    threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return {
        (*sorted(os.sched_getaffinity(tid)), "nice", int(stat_of(f"{pid}/task/{tid}")[16]), os.sched_getscheduler(tid))
        for tid in threads
    }


def test_a_starved_rank_has_one_processor_and_the_lowest_priority_in_every_thread(tmp_path):
    """As the kernel shows for each of its threads."""
    with running(tmp_path, THREADS, faults.starve(rank=0, when=READY), grace=60.0) as job:  # it ends slowly, too
        assert result_of(job) == "injected"
        pid = job.pids()[0]
        assert len(os.listdir(f"/proc/{pid}/task")) == 4
        assert schedules(pid) == {(min(os.sched_getaffinity(0)), "nice", 19, os.SCHED_IDLE)}


@pytest.mark.skipif(unprivileged(), reason="raising a priority needs CAP_SYS_NICE")
def test_a_starved_rank_gets_everything_back(tmp_path):
    """Processors, nice value and policy."""
    with running(tmp_path, THREADS, faults.starve(rank=0, when=READY, for_=0.3)) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected"
        record_of(job, "healed")
        assert schedules(pid) == {(*sorted(os.sched_getaffinity(0)), "nice", os.nice(0), os.SCHED_OTHER)}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
def test_a_rank_that_keeps_its_priority_gets_its_processors_back(tmp_path):
    """No privilege is needed."""
    last = max(os.sched_getaffinity(0))
    with running(tmp_path, THREADS, faults.starve(last, "keep", rank=0, when=READY, for_=0.5)) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected"
        record_of(job, "healed")
        assert schedules(pid) == {(*sorted(os.sched_getaffinity(0)), "nice", os.nice(0), os.SCHED_OTHER)}


@pytest.mark.skipif(not unprivileged(), reason="root can raise it again")
def test_a_change_that_could_not_be_undone_is_not_made(tmp_path):
    """A priority that could not be restored is not lowered."""
    with running(tmp_path, THREADS, faults.starve(rank=0, when=READY, for_=0.3)) as job:
        assert result_of(job) == "unavailable"
        assert schedules(job.pids()[0]) == {(*sorted(os.sched_getaffinity(0)), "nice", os.nice(0), os.SCHED_OTHER)}


def test_a_missing_processor_starves_no_rank(tmp_path):
    """The rank continues unchanged."""
    with running(tmp_path, THREADS, faults.starve(4095, rank=0, when=READY)) as job:
        assert result_of(job) == "errored"
        assert schedules(job.pids()[0]) == {(*sorted(os.sched_getaffinity(0)), "nice", os.nice(0), os.SCHED_OTHER)}


def test_an_already_starved_rank_is_no_injection(tmp_path):
    """There would be no change."""
    program = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint('ready', flush=True)\ntime.sleep(60)"
    with running(tmp_path, program, faults.starve(priority="keep", rank=0, when=READY)) as job:
        assert result_of(job) == "errored"


BUSY = "print('ready', flush=True)\nwhile True: pass"


def share_of(pid):
    """Return the share of a processor that a process uses over some time."""
    began, used = time.monotonic(), sum(map(int, stat_of(pid)[11:13]))
    time.sleep(0.8)  # noqa: TID251 - processor time is counted over some time
    return (sum(map(int, stat_of(pid)[11:13])) - used) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)


def test_a_throttled_rank_stops_and_runs_in_turn(tmp_path):
    """Both states show in /proc, and it gets less processor time."""
    with running(tmp_path, BUSY, faults.throttle(10, rank=0, when=READY)) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected"
        assert wait_for(lambda: state_of(pid) == "T")
        assert wait_for(lambda: state_of(pid) == "R")
        wait_for(lambda: share_of(pid) < 0.5, "a share below a half")  # as long as nobody keeps us from stopping it


def test_a_rank_continues_after_throttling(tmp_path):
    """It is no longer stopped."""
    with running(tmp_path, BUSY, faults.throttle(10, rank=0, when=READY, for_=0.5)) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected"
        record_of(job, "healed")
        assert wait_for(lambda: state_of(pid) == "R")
        assert not any(state_of(pid) == "T" or time.sleep(0.005) for _ in range(100))  # noqa: TID251


def test_a_throttled_rank_is_ended_with_its_job_without_waiting(tmp_path):
    """A stopped rank would handle SIGTERM only after it continues."""
    with running(tmp_path, BUSY, faults.throttle(50, 5.0, rank=0, when=READY), grace=DEADLINE) as job:
        pid = job.pids()[0]
        assert wait_for(lambda: state_of(pid) == "T")
        began = time.monotonic()
        job.close()
        assert time.monotonic() - began < DEADLINE / 2

    assert state_of(pid) == ""


def test_a_rank_that_ends_at_once_was_not_throttled(tmp_path):
    """It was never stopped and continued."""
    seen, _ = ended(tmp_path, ["/bin/true"], faults.throttle(4, 1.0, rank=0, when=when.after(3)))

    assert [result.status for result in seen.faults] == ["not_reached"]


ENGINE = """
import sys
from pathlib import Path
from derail import faults, when
from derail.agents.native_job import start_job
from derail.agents.invocation import LocalJob
fault = faults.throttle(100, 60.0, rank=0, when=when.line("ready"))
job = start_job(LocalJob([sys.executable, "-c", sys.argv[2]], ranks=1, plan=faults.plan([fault])), Path(sys.argv[1]))
print(job.pids()[0], flush=True)
job.wait()
"""


def test_a_stopped_rank_does_not_outlive_an_engine_that_was_killed(tmp_path):
    """It cannot be continued any more; it is ended with its job."""
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(tmp_path / "work"), BUSY], stdout=subprocess.PIPE, text=True
    )
    with engine:
        pid = int(engine.stdout.readline())
        wait_for(lambda: state_of(pid) == "T", "the stop")
        os.kill(engine.pid, signal.SIGKILL)

    assert wait_for(lambda: state_of(pid) in ("", "Z", "X"), "the end of the rank")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: faults.throttle(1, rank=0), "1.01 or more"),
        (lambda: faults.throttle(2, 0, rank=0), "0.01 seconds or more"),
        (lambda: faults.starve(priority="lower", rank=0), "unknown priority 'lower'"),
    ],
)
def test_wrong_values_are_refused_where_they_are_given(make, problem):
    """Nothing is started with them."""
    with pytest.raises(InputError) as error:
        make()

    assert problem in str(error.value)
