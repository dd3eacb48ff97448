"""Hangs: their state in /proc, the signals that still take effect, and their end."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from derail import faults, when
from derail.faults.catalogue.injector_api import Aim
from derail.faults.injectors import hang
from derail.platform.proc_status import read_process_state
from faults.injectors.test_crashes import VERSIONS
from faults.rank_functions_of_faults import says_who
from faults.real_job import DEADLINE, ENDED, HEALED, result_of, running, stat_of, state_of, wait_for
from program_files import UNTIL, program_text
from wording import Tells

WAITS = "print('ready', flush=True)\ntime.sleep(60)\n"
TICKS = """
import signal, threading
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked\\n"))
def tick():
    while True:
        os.write(2, b".")
        time.sleep(0.01)
threading.Thread(target=tick, daemon=True).start()
"""
READY = when.line("ready")
LATER = (faults.hang_at_exit, faults.hang_thread)
A_WHILE = 3.0
"""Seconds of a hang that is over by itself: it must be seen before, also by who has to stand still for a moment."""
ALL = [getattr(faults, entry.name) for entry in hang.ENTRIES]
NOW = [make for make in ALL if make not in LATER]


def name_of(make):
    """Return the name of a test case."""
    return make.__name__


def wchan(pid):
    """Return the place in the kernel where a process waits; "" if it is not shown."""
    return Path(f"/proc/{pid}/wchan").read_text().strip("0")


def seconds_used(pid):
    """Return the processor time of a process, as counted by the kernel."""
    return sum(map(int, stat_of(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def child_of(job):
    """Return the child that a rank in state D waits for."""
    return int(re.search(r"child \(pid (\d+)\)", job.fault_results()[0].detail)[1])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("make", NOW, ids=name_of)
def test_a_rank_hangs_for_a_time_and_continues(run_faults, version, make):
    """In every Python; after the hang no trace of it is left."""
    source = f"{UNTIL}print('ready', flush=True)\nuntil('{HEALED}')\nprint('went on')\n"
    run = run_faults([make(rank=0, for_=A_WHILE, when=READY)], source, python=VERSIONS[version])
    (start,), healed = run.events("start"), next(record for record in run.events("healed") if "what" not in record)

    assert run.one().injected, run.one()
    assert A_WHILE <= healed["at"] - start["at"] < A_WHILE + 60
    assert (str(run.job.status[0]), run.log(0)) == ("exit 0", "ready\nwent on\n")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("make", LATER, ids=name_of)
def test_a_rank_hangs_for_a_time_and_ends(run_faults, version, make):
    """After the end of its program."""
    run = run_faults([make(rank=0, for_=A_WHILE)], "print('worked', flush=True)", python=VERSIONS[version])
    (hangs,), (healed,) = run.events("hangs"), run.events("healed")

    assert run.one().injected, run.one()
    assert A_WHILE <= healed["at"] - hangs["at"] < A_WHILE + 60
    assert (str(run.job.status[0]), run.log(0)) == ("exit 0", "worked\n")


@pytest.mark.parametrize(
    ("make", "state", "place"),
    [
        (faults.hang, "S", "nanosleep"),
        (faults.deadlock, "S", "futex"),
        (faults.gil_held, "S", "futex"),
        (faults.blocked_pipe, "S", "pipe_write"),
        (faults.busy_loop, "R", ""),
        (faults.uninterruptible, "D", "kernel_clone"),
    ],
    ids=[name_of(make) for make in NOW],
)
def test_the_kernel_shows_how_a_rank_hangs(tmp_path, make, state, place):
    """Its state, and the place where it waits."""
    with running(tmp_path, WAITS, make(rank=0, when=READY), grace=0.1) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected", job.fault_results()
        wait_for(lambda: state_of(pid) == state and (place in wchan(pid) or not wchan(pid)), f"{state} in {place}")


@pytest.mark.parametrize("make", [faults.deadlock, faults.busy_loop, faults.blocked_pipe], ids=name_of)
def test_a_main_thread_that_hangs_in_python_runs_its_handlers(tmp_path, make):
    """SIGTERM is handled, and other threads continue."""
    with running(tmp_path, TICKS + WAITS, make(rank=0, when=READY), grace=0.1) as job:
        assert result_of(job) == "injected", job.fault_results()
        ticks = job.log(0, "stderr").stat().st_size
        os.kill(job.pids()[0], signal.SIGTERM)
        wait_for(lambda: "asked" in job.log(0, "stdout").read_text())
        wait_for(lambda: job.log(0, "stderr").stat().st_size > ticks)


def test_a_busy_rank_uses_processor_time(tmp_path):
    """It grows during the observation."""
    with running(tmp_path, WAITS, faults.busy_loop(rank=0, when=READY), grace=0.1) as job:
        assert result_of(job) == "injected"
        before = seconds_used(job.pids()[0])
        wait_for(lambda: seconds_used(job.pids()[0]) > before + 0.1)


def test_no_other_thread_runs_while_the_gil_is_held(tmp_path):
    """A signal is delivered, but neither its handler nor any other thread runs."""
    with running(tmp_path, TICKS + WAITS, faults.gil_held(rank=0, when=READY), grace=0.1) as job:
        assert result_of(job) == "injected", job.fault_results()
        pid, ticks = job.pids()[0], job.log(0, "stderr").stat().st_size
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: signal.SIGTERM not in read_process_state(pid).pending and state_of(pid) == "S")
        seen = job.wait(0.5)
        assert job.log(0, "stderr").stat().st_size == ticks
        assert job.log(0, "stdout").read_text() == "ready\n"
        assert str(seen.ranks[0].status) == "SIGKILL (9)"


def test_a_rank_in_state_d_handles_no_signal_and_its_threads_continue(tmp_path, pid_gone):
    """The handler of SIGTERM does not run; SIGKILL ends the rank, and its child with it."""
    with running(tmp_path, TICKS + WAITS, faults.uninterruptible(rank=0, when=READY), grace=0.1) as job:
        assert result_of(job) == "injected", job.fault_results()
        pid, child, ticks = job.pids()[0], child_of(job), job.log(0, "stderr").stat().st_size
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: job.log(0, "stderr").stat().st_size > ticks)
        assert (state_of(pid), job.log(0, "stdout").read_text()) == ("D", "ready\n")
        assert stat_of(child)[1:3] == [str(pid)] * 2
    assert pid_gone(child)


def test_a_child_that_outlives_its_killed_rank_does_not_outlive_the_job(tmp_path, pid_gone):
    """Only the rank itself got SIGKILL."""
    with running(tmp_path, WAITS, faults.uninterruptible(rank=0, when=READY)) as job:
        assert result_of(job) == "injected", job.fault_results()
        child = child_of(job)
        os.kill(job.pids()[0], signal.SIGKILL)
        seen = job.wait(DEADLINE)

    assert str(seen.ranks[0].status) == "SIGKILL (9)"
    assert pid_gone(child)


def test_a_child_stopped_at_the_end_of_the_hang_releases_the_rank(tmp_path):
    """As soon as the child continues itself."""
    program = f"{UNTIL}print('ready', flush=True)\nuntil('{HEALED}')\n"
    with running(tmp_path, program, faults.uninterruptible(rank=0, for_=A_WHILE, when=READY)) as job:
        assert result_of(job) == "injected", job.fault_results()
        rank, child = Path(f"/proc/{job.pids()[0]}/fd"), child_of(job)
        os.kill(child, signal.SIGSTOP)
        wait_for(lambda: sum("fifo" in os.readlink(fd) for fd in rank.iterdir()) == 2, "the end of the hang")
        os.kill(child, signal.SIGCONT)
        seen = job.wait(DEADLINE)

    assert seen.succeeded, seen


LAUNCHER = program_text("faults/launcher")


@pytest.mark.parametrize("make", [faults.uninterruptible, faults.gil_held, faults.deadlock], ids=name_of)
def test_a_rank_that_hangs_does_not_outlive_a_killed_launcher(tmp_path, make, pid_gone):
    """Neither does the child that it waits for."""
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    argv = [sys.executable, str(tmp_path / "launcher.py"), str(tmp_path / "work"), make.__name__]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as launcher:
        try:
            pids = [int(word) for word in launcher.stdout.readline().split()]
        finally:
            launcher.kill()

    assert len(pids) == 1 + (make is faults.uninterruptible)
    assert all(pid_gone(pid) for pid in pids)


@pytest.mark.parametrize("make", LATER, ids=name_of)
def test_a_rank_whose_work_is_done_does_not_end(tmp_path, make):
    """It sleeps until it is killed."""
    with running(tmp_path, "print('worked', flush=True)\n", make(rank=0), grace=0.1) as job:
        assert result_of(job) == "injected", job.fault_results()
        wait_for(lambda: state_of(job.pids()[0]) == "S", "a rank that sleeps")
        assert job.log(0, "stdout").read_text() == "worked\n"
        seen = job.wait(0.1)

    assert (seen.succeeded, str(seen.ranks[0].status)) == (False, "SIGTERM (15)")


@pytest.mark.parametrize("make", LATER, ids=name_of)
def test_a_rank_that_exits_at_once_does_not_hang_at_exit(run_faults, make):
    """os._exit calls no functions and joins no threads."""
    run = run_faults([make(rank=0)], "import os\nos._exit(0)")

    assert (run.one().status, str(run.job.status[0])) == ("not_reached", "exit 0")
    assert "never came" in run.one().detail


@pytest.mark.parametrize("make", ALL, ids=name_of)
def test_an_impossible_or_never_due_hang_does_not_happen(run_faults, make):
    """An isolated Python, a program that is not Python, a line that is never written."""
    given = [make(rank=rank, when=when.line("never") if rank == 2 else when.start()) for rank in range(3)]
    run = run_faults(given, (sys.executable, "-I", "-c", "pass"), ("/bin/true",), "print('ran')")

    assert [str(run.job.status[rank]) for rank in range(3)] == ["exit 0"] * 3
    assert [result.status for result in run.results] == ["unavailable", "unavailable", "not_reached"]


@pytest.mark.parametrize("make", [faults.busy_loop, faults.deadlock], ids=name_of)
def test_an_unobserved_hang_is_no_injection(run_faults, make):
    """It was over before it was observed."""
    run = run_faults([make(rank=0, for_=0.0)], "print('ran')")

    assert (run.one().status, run.log(0)) == ("errored", "ran\n"), run.one()


@pytest.mark.parametrize(("attempt", "status"), [(0, "not_reached"), (1, "injected"), (2, "not_reached")])
@pytest.mark.parametrize("make", [faults.hang, faults.deadlock, faults.hang_at_exit], ids=name_of)
def test_a_rank_hangs_only_after_its_first_restart(run_faults, make, attempt, status):
    """By the restart number of a supervisor that restarts ranks."""
    env = {"TORCHELASTIC_RESTART_COUNT": str(attempt)}
    run = run_faults([make(rank=0, for_=A_WHILE, when=when.restart(1))], "print('ran')", env=env)

    assert (run.one().status, run.log(0), str(run.job.status[0])) == (status, "ran\n", "exit 0"), run.one()


@pytest.mark.parametrize(
    "make",
    [
        faults.blocked_pipe,
        faults.uninterruptible,
        faults.hang_thread,
        faults.gil_held,
        lambda **given: faults.async_exception("ValueError", rank=given["rank"]),
    ],
    ids=["blocked_pipe", "uninterruptible", "hang_thread", "gil_held", "async_exception"],
)
def test_a_rank_without_threads_runs_unchanged(run_faults, tmp_path, make):
    """Faults that need a thread report it, and the program does not notice."""
    (tmp_path / "sitecustomize.py").write_text(
        "import _thread\ndef start(*_, **__): raise RuntimeError('no thread')\n"
        "_thread.start_new_thread = _thread.start_joinable_thread = start\n"
    )
    run = run_faults([make(rank=0, for_=0.3)], "print('ran')", env={"PYTHONPATH": str(tmp_path)})

    assert (run.one().status, run.log(0), str(run.job.status[0])) == ("errored", "ran\n", "exit 0"), run.one()
    assert "no thread" in run.one().detail


def test_a_gil_that_other_threads_got_was_not_held(run_faults):
    """The call released the GIL; the other threads continued, and that is observed."""
    source = f"{UNTIL}import ctypes\nctypes.PyDLL = ctypes.CDLL\nprint('ready', flush=True)\nuntil('{HEALED}')\n"
    run = run_faults([faults.gil_held(rank=0, for_=A_WHILE, when=READY)], source)

    assert (run.one().status, str(run.job.status[0])) == ("errored", "exit 0"), run.one()


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.parametrize("make", ALL, ids=name_of)
def test_functions_hang_with_every_start_method(tmp_path, make, method):
    """A forked rank never started an interpreter, but its exit is the same."""
    with running(tmp_path, says_who, make(rank=0), ranks=2, start_method=method, grace=0.1) as job:
        assert result_of(job) == "injected", job.fault_results()
        assert state_of(job.pids()[0]) in ("S", "D", "R")


def test_an_unscheduled_thread_is_no_evidence_of_a_held_gil(monkeypatch):
    """On a busy machine it may not run for a while, without any hang: it must have tried."""
    turns = iter([7, 7, 8, 8, 9, 9, 10, 10])
    monkeypatch.setattr(hang, "SILENCE", 0.0)
    monkeypatch.setattr(hang, "_position", lambda *_: 4)
    monkeypatch.setattr(hang, "_waiting", lambda *_: "state S")
    monkeypatch.setattr(hang, "_turns", lambda *_: next(turns))
    told = [{"event": "start", "by": os.getpid(), "where": "here"}, {"event": "witness", "fd": 3, "thread": 1}]
    step = hang.holds_gil(Aim(faults.gil_held(rank=0), 0, 0, None, records=told))

    assert [step.check() is not None for _ in range(4)] == [False, False, False, True]


def test_a_python_without_a_gil_cannot_hold_it(run_faults):
    """The rank reports it."""
    gil = "import sys\nsys._is_gil_enabled = lambda: False\n"
    source = f"{UNTIL}{gil}print('ready', flush=True)\nuntil('{ENDED}')\n"
    run = run_faults([faults.gil_held(rank=0, when=READY)], source)

    assert run.one().detail == Tells("rank 0", "GIL")
    assert (run.one().status, str(run.job.status[0])) == ("unavailable", "exit 0")
