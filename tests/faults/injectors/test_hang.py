"""Ranks that do not get on: what the kernel tells of them, what they still hear, and how it ends."""

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
    """For the names of tests."""
    return make.__name__


def wchan(pid):
    """Where in the kernel a process waits; "" if that is not told."""
    return Path(f"/proc/{pid}/wchan").read_text().strip("0")


def seconds_used(pid):
    """Processor time, as the kernel counts it."""
    return sum(map(int, stat_of(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def child_of(job):
    """The child that a rank in state D waits for."""
    return int(re.search(r"child \(pid (\d+)\)", job.fault_results()[0].detail)[1])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("make", NOW, ids=name_of)
def test_a_rank_hangs_for_a_while_and_goes_on(run_faults, version, make):
    """In every Python; what it hung in is over, and leaves nothing in its way."""
    source = f"{UNTIL}print('ready', flush=True)\nuntil('{HEALED}')\nprint('went on')\n"
    run = run_faults([make(rank=0, for_=A_WHILE, when=READY)], source, python=VERSIONS[version])
    (start,), healed = run.events("start"), next(record for record in run.events("healed") if "what" not in record)

    assert run.one().injected, run.one()
    assert A_WHILE <= healed["at"] - start["at"] < A_WHILE + 60
    assert (str(run.job.status[0]), run.log(0)) == ("exit 0", "ready\nwent on\n")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("make", LATER, ids=name_of)
def test_a_rank_hangs_for_a_while_and_ends(run_faults, version, make):
    """After its program has done everything."""
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
def test_the_kernel_tells_how_a_rank_hangs(tmp_path, make, state, place):
    """Its state, and where it waits."""
    with running(tmp_path, WAITS, make(rank=0, when=READY), grace=0.1) as job:
        pid = job.pids()[0]
        assert result_of(job) == "injected", job.fault_results()
        wait_for(lambda: state_of(pid) == state and (place in wchan(pid) or not wchan(pid)), f"{state} in {place}")


@pytest.mark.parametrize("make", [faults.deadlock, faults.busy_loop, faults.blocked_pipe], ids=name_of)
def test_a_main_thread_that_hangs_in_python_runs_its_handlers(tmp_path, make):
    """SIGTERM is heard, and other threads go on."""
    with running(tmp_path, TICKS + WAITS, make(rank=0, when=READY), grace=0.1) as job:
        assert result_of(job) == "injected", job.fault_results()
        ticks = job.log(0, "stderr").stat().st_size
        os.kill(job.pids()[0], signal.SIGTERM)
        wait_for(lambda: "asked" in job.log(0, "stdout").read_text())
        wait_for(lambda: job.log(0, "stderr").stat().st_size > ticks)


def test_a_busy_rank_uses_processor_time(tmp_path):
    """It grows while one looks."""
    with running(tmp_path, WAITS, faults.busy_loop(rank=0, when=READY), grace=0.1) as job:
        assert result_of(job) == "injected"
        before = seconds_used(job.pids()[0])
        wait_for(lambda: seconds_used(job.pids()[0]) > before + 0.1)


def test_while_the_gil_is_held_nobody_in_the_rank_is_heard(tmp_path):
    """A signal is delivered, but its handler does not run, and no other thread does."""
    with running(tmp_path, TICKS + WAITS, faults.gil_held(rank=0, when=READY), grace=0.1) as job:
        assert result_of(job) == "injected", job.fault_results()
        pid, ticks = job.pids()[0], job.log(0, "stderr").stat().st_size
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: signal.SIGTERM not in read_process_state(pid).pending and state_of(pid) == "S")
        seen = job.wait(0.5)
        assert job.log(0, "stderr").stat().st_size == ticks
        assert job.log(0, "stdout").read_text() == "ready\n"
        assert str(seen.ranks[0].status) == "SIGKILL (9)"


def test_a_rank_in_state_d_hears_no_signal_and_its_threads_go_on(tmp_path, pid_gone):
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


def test_a_child_that_is_stopped_when_the_hang_is_over_lets_the_rank_go_on(tmp_path):
    """As soon as it goes on itself."""
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
    """Nor does the child that it waits for."""
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
    """It sleeps until somebody ends it."""
    with running(tmp_path, "print('worked', flush=True)\n", make(rank=0), grace=0.1) as job:
        assert result_of(job) == "injected", job.fault_results()
        wait_for(lambda: state_of(job.pids()[0]) == "S", "a rank that sleeps")
        assert job.log(0, "stdout").read_text() == "worked\n"
        seen = job.wait(0.1)

    assert (seen.succeeded, str(seen.ranks[0].status)) == (False, "SIGTERM (15)")


@pytest.mark.parametrize("make", LATER, ids=name_of)
def test_a_rank_that_leaves_at_once_does_not_hang_at_its_end(run_faults, make):
    """os._exit calls nobody and waits for nobody."""
    run = run_faults([make(rank=0)], "import os\nos._exit(0)")

    assert (run.one().status, str(run.job.status[0])) == ("not_reached", "exit 0")
    assert "never came" in run.one().detail


@pytest.mark.parametrize("make", ALL, ids=name_of)
def test_what_cannot_be_entered_or_is_never_due_does_not_hang(run_faults, make):
    """A Python that is kept apart, a program that is no Python, a line that nobody writes."""
    given = [make(rank=rank, when=when.line("never") if rank == 2 else when.start()) for rank in range(3)]
    run = run_faults(given, (sys.executable, "-I", "-c", "pass"), ("/bin/true",), "print('ran')")

    assert [str(run.job.status[rank]) for rank in range(3)] == ["exit 0"] * 3
    assert [result.status for result in run.results] == ["unavailable", "unavailable", "not_reached"]


@pytest.mark.parametrize("make", [faults.busy_loop, faults.deadlock], ids=name_of)
def test_a_hang_that_nobody_could_see_is_no_injection(run_faults, make):
    """It was over before it showed."""
    run = run_faults([make(rank=0, for_=0.0)], "print('ran')")

    assert (run.one().status, run.log(0)) == ("errored", "ran\n"), run.one()


@pytest.mark.parametrize(("attempt", "status"), [(0, "not_reached"), (1, "injected"), (2, "not_reached")])
@pytest.mark.parametrize("make", [faults.hang, faults.deadlock, faults.hang_at_exit], ids=name_of)
def test_a_rank_hangs_only_after_its_first_restart(run_faults, make, attempt, status):
    """As a supervisor that restarts ranks counts them."""
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
def test_a_rank_that_gets_no_thread_runs_as_if_nothing_had_been_asked_for(run_faults, tmp_path, make):
    """The faults that need one say so, and the program hears nothing of it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import _thread\ndef start(*_, **__): raise RuntimeError('no thread')\n"
        "_thread.start_new_thread = _thread.start_joinable_thread = start\n"
    )
    run = run_faults([make(rank=0, for_=0.3)], "print('ran')", env={"PYTHONPATH": str(tmp_path)})

    assert (run.one().status, run.log(0), str(run.job.status[0])) == ("errored", "ran\n", "exit 0"), run.one()
    assert "no thread" in run.one().detail


def test_a_gil_that_others_got_was_not_held(run_faults):
    """Somebody made the call give it back; the other threads went on, and that is seen."""
    source = f"{UNTIL}import ctypes\nctypes.PyDLL = ctypes.CDLL\nprint('ready', flush=True)\nuntil('{HEALED}')\n"
    run = run_faults([faults.gil_held(rank=0, for_=A_WHILE, when=READY)], source)

    assert (run.one().status, str(run.job.status[0])) == ("errored", "exit 0"), run.one()


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.parametrize("make", ALL, ids=name_of)
def test_functions_hang_wherever_they_come_from(tmp_path, make, method):
    """A forked rank never started an interpreter, and ends like one all the same."""
    with running(tmp_path, says_who, make(rank=0), ranks=2, start_method=method, grace=0.1) as job:
        assert result_of(job) == "injected", job.fault_results()
        assert state_of(job.pids()[0]) in ("S", "D", "R")


def test_a_thread_that_was_not_let_run_was_not_kept_from_the_gil(monkeypatch):
    """On a busy machine it moves nothing for a while, with nobody in its way: it must have tried."""
    turns = iter([7, 7, 8, 8, 9, 9, 10, 10])
    monkeypatch.setattr(hang, "SILENCE", 0.0)
    monkeypatch.setattr(hang, "_position", lambda *_: 4)
    monkeypatch.setattr(hang, "_waiting", lambda *_: "state S")
    monkeypatch.setattr(hang, "_turns", lambda *_: next(turns))
    told = [{"event": "start", "by": os.getpid(), "where": "here"}, {"event": "witness", "fd": 3, "thread": 1}]
    step = hang.holds_gil(Aim(faults.gil_held(rank=0), 0, 0, None, records=told))

    assert [step.check() is not None for _ in range(4)] == [False, False, False, True]


def test_a_python_without_a_gil_cannot_hold_it(run_faults):
    """It says so itself."""
    gil = "import sys\nsys._is_gil_enabled = lambda: False\n"
    source = f"{UNTIL}{gil}print('ready', flush=True)\nuntil('{ENDED}')\n"
    run = run_faults([faults.gil_held(rank=0, when=READY)], source)

    assert run.one().detail == Tells("rank 0", "GIL")
    assert (run.one().status, str(run.job.status[0])) == ("unavailable", "exit 0")
