"""Processes that outlive a rank are found, wherever they have gone, and ended; unrelated ones are not."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import replace

import pytest

from derail.model.outcome import Leftover
from derail.model.spec import JOB_ENV
from derail.platform import leftovers, marks, processes
from derail.platform.leftovers import Swept, carries_mark, end_processes, find_processes, split
from derail.platform.lifeline import KEEPER_ENV
from program_files import program_text

DEADLINE = 60.0


@pytest.fixture
def job_id():
    """A mark that is unique to the test."""
    return f"job-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["proc", "psutil"])
def table(request, monkeypatch):
    """Both ways to read the process table."""
    if request.param == "psutil":
        monkeypatch.setattr(processes, "_HAS_PROC", False)
    return request.param


@pytest.fixture
def end_later():
    """End processes that are no children of the test, if the code under test did not."""
    pidfds = []

    def remember(pid):
        pidfds.append(os.pidfd_open(pid))
        return pid

    yield remember
    for pidfd in pidfds:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def _soon():
    return time.monotonic() + DEADLINE


def _by_pid(found):
    return {process.pid: process.by for process in found}


def test_members_of_a_ranks_group_and_session_are_found(start, end_later, table):
    """A process in the group of a rank belongs to it, also when the rank is a zombie; the zombie is no leftover."""
    rank = start("sh", "-c", "sleep 600 & echo $!; exit 3")
    helper = end_later(int(rank.read_line()))
    os.waitid(os.P_PID, rank.pid, os.WEXITED | os.WNOWAIT)

    assert _by_pid(find_processes("", {rank.pid})) == {helper: "group"}


def test_a_helper_with_a_group_of_its_own_is_found_by_its_session(start_python, end_later, table):
    """A job-controlling shell or a careful daemon moves to another group, in the same session."""
    rank = start_python(
        "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], process_group=0).pid, flush=True)"
    )
    helper = end_later(int(rank.read_line()))
    os.waitid(os.P_PID, rank.pid, os.WEXITED | os.WNOWAIT)

    assert _by_pid(find_processes("", {rank.pid})) == {helper: "session"}


def test_a_helper_that_left_the_session_is_found_by_the_mark_and_ended(
    start, end_later, table, job_id, pid_gone, wait_until
):
    """A new session escapes every signal to a group; the environment stays with it."""
    rank = start("sh", "-c", "setsid sleep 600 & echo $!; read line", env={JOB_ENV: f"outer:{job_id}:inner"})
    helper = end_later(int(rank.read_line()))

    def find():
        found = find_processes(job_id, (), exclude={rank.pid})
        return found if [process.command for process in found] == ["sleep 600"] else []

    found = wait_until(find, what="it has executed setsid, and that sleep")
    assert _by_pid(found) == {helper: "mark"}
    assert found[0].command == "sleep 600"
    assert end_processes(found, deadline=_soon()) == Swept(ended=tuple(found))
    assert pid_gone(helper)
    assert os.waitid(os.P_PID, rank.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def test_a_process_in_the_middle_of_its_exec_is_found(start, monkeypatch, job_id):
    """For a moment it has neither command line nor environment, and is read again."""
    child = start("sleep", "600", env={JOB_ENV: job_id})
    read, looks = processes._read, {"cmdline": 0, "environ": 0}

    def read_late(pid, name):
        if pid != child.pid or name not in looks:
            return read(pid, name)
        looks[name] += 1
        return read(pid, name) if min(looks.values()) > 3 else b""

    monkeypatch.setattr(processes, "_read", read_late)
    found = find_processes(job_id, ())

    assert [(process.pid, process.command, process.by) for process in found] == [(child.pid, "sleep 600", "mark")]


@pytest.mark.usefixtures("table")
def test_a_process_that_executes_a_program_again_and_again_shows_its_mark_and_command_at_all_times(start, job_id):
    """It never runs without them; in the middle of an exec, the kernel shows neither."""
    program = 'echo ready; read line && exec "$0" -c "$1" "$0" "$1"'
    child = start("sh", "-c", program, "sh", program, env={JOB_ENV: job_id})
    found = []
    for _ in range(100):
        child.read_line()
        child.tell("execute")
        while not select.select([child.process.stdout], [], [], 0)[0]:
            found.append((processes.environment(child.pid), processes.command_line(processes.look_up(child.pid))))

    assert {(carries_mark(environ, job_id), command.split()[0]) for environ, command in found} == {(True, "sh")}


def test_a_process_whose_first_thread_has_ended_is_found_and_ended(start_python, job_id):
    """The kernel shows it as a zombie although its other threads run."""
    child = start_python(
        program_text("platform/ends_main_thread"),
        env={JOB_ENV: job_id},
    )
    child.tell("its command line has been seen: it is empty from now on")
    child.read_line()
    found = find_processes("", {child.pid})
    assert [process.pid for process in found] == [child.pid]
    assert end_processes(found, deadline=_soon()) == Swept(ended=tuple(found))


def test_a_pending_signal_kills_only_when_the_process_gets_cpu_time(start, wait_until):
    """Until then the fatal signal is pending; a blocked signal does not count."""
    child = start("sh", "-c", "trap '' TERM; echo ready; read line")
    child.read_line()
    os.kill(child.pid, signal.SIGTERM)
    assert not processes.is_dying(child.pid)
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    os.kill(child.pid, signal.SIGHUP)
    assert processes.is_dying(child.pid)
    os.kill(child.pid, signal.SIGCONT)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.is_dying(child.pid)  # as a zombie, it has been torn down
    assert not processes.is_dying(4194304)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (b"DERAIL_JOB=abc", True),
        (b"A=1\0DERAIL_JOB=x:abc:y\0B=2\0", True),
        (b"DERAIL_JOB=abcd", False),
        (b"DERAIL_JOB=xabc", False),
        (b"NOT_DERAIL_JOB=abc", False),
        (b"OTHER=DERAIL_JOB=abc", False),
        (b"DERAIL_JOB=", False),
        (b"", False),
    ],
)
def test_a_mark_is_the_whole_id(environ, expected):
    """An id that begins or ends the same is another job's."""
    assert carries_mark(environ, "abc") is expected


def test_without_an_id_or_sessions_no_process_is_found(start, table):
    """An empty id does not match every process."""
    start("sleep", "600", env={JOB_ENV: "someone"})

    assert find_processes("", ()) == []


def test_this_process_is_never_found(run_python, job_id):
    """A launcher that runs inside a marked job does not find itself."""
    source = f"from derail.platform.leftovers import find_processes; print(find_processes({job_id!r}, ()))"

    assert run_python(source, env={JOB_ENV: job_id}).stdout.strip() == "[]"


def test_a_helper_that_forks_while_it_is_ended_is_ended_with_its_children(start_python, table, job_id, wait_until):
    """There are rounds until it is certain that no new process exists, however busy the machine is."""
    fleeing = """
import os, sys, time
print("running", flush=True)
for _ in range(400):  # should it ever escape from the test
    if os.fork() != 0:
        time.sleep(0.05)
        os._exit(0)
    os.setsid()
"""
    rank = start_python(fleeing, env={JOB_ENV: job_id})
    rank.read_line()
    wait_until(lambda: {process.pid for process in find_processes(job_id, ())} - {rank.pid}, what="it has forked")

    swept = end_processes(
        find_processes(job_id, (), looks=20), deadline=_soon(), find_more=lambda: find_processes(job_id, (), looks=20)
    )

    assert swept.surviving == ()
    assert find_processes(job_id, (), looks=20) == []


@pytest.mark.parametrize(
    ("newest", "order"), [(300, [300, 10, 32000, 400]), (32000, [32000, 400, 300, 10]), (None, [32000, 400, 300, 10])]
)
def test_the_newest_process_is_read_first_also_when_pids_have_wrapped_around(monkeypatch, newest, order):
    """It may exist for a moment only."""
    monkeypatch.setattr(processes, "every_pid", lambda: [10, 300, 400, 32000])
    monkeypatch.setattr(processes, "newest_pid", lambda: newest)
    monkeypatch.setattr(processes, "look_up", lambda pid: pid)

    assert list(processes.every_process()) == order


def test_a_process_that_appears_in_a_round_is_ended_in_the_next(start):
    """The search continues until it finds no new process, and all ended ones are reported."""
    rounds = [find_processes("", {start("sleep", "600").pid}) for _ in range(3)]
    later = iter([*rounds[1:], []])

    swept = end_processes(rounds[0], deadline=_soon(), find_more=lambda: next(later))

    assert swept == Swept(ended=tuple(process for found in rounds for process in found))
    assert list(later) == []


def test_an_unrelated_process_with_a_reused_pid_is_not_signalled(start):
    """A reused pid is detected by its start time."""
    stranger = start("sh", "-c", "read line; exit 7")
    (seen,) = find_processes("", {stranger.pid})
    other = replace(seen, started=seen.started - 1)

    assert end_processes([other], deadline=_soon()) == Swept(ended=(other,))
    assert os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


@pytest.mark.parametrize("without", [None, AttributeError(), OSError(24, "Too many open files")])
def test_a_process_that_does_not_die_is_named_at_the_deadline(start, monkeypatch, without):
    """A process in state D survives SIGKILL; the wait for it is bounded, also where there are no pidfds."""
    child = start("sleep", "600")
    found = find_processes("", {child.pid})
    monkeypatch.setattr(leftovers, "signal_process", lambda *_: True)
    if without is not None:

        def refuse(_pid):
            raise without

        monkeypatch.setattr(os, "pidfd_open", refuse)

    assert end_processes(found, deadline=time.monotonic() + 0.05) == Swept(surviving=tuple(found))


def test_a_process_that_may_not_be_signalled_is_named_at_once(start, monkeypatch):
    """A process of another user is not awaited."""
    child = start("sleep", "600")
    found = find_processes("", {child.pid})
    monkeypatch.setattr(leftovers, "signal_process", lambda *_: False)
    before = time.monotonic()

    assert end_processes(found, deadline=before + 600) == Swept(surviving=tuple(found))
    assert time.monotonic() < before + 300


def test_processes_are_ended_without_pidfds(start, monkeypatch):
    """Without a free descriptor, the pid is compared and used."""
    child = start("sleep", "600")
    found = find_processes("", {child.pid})

    def refuse(_pid):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)

    assert end_processes(found, deadline=_soon()) == Swept(ended=tuple(found))
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT).si_status == signal.SIGKILL


def test_a_found_process_is_reported_as_a_leftover(start):
    """An outcome names the process by its command line."""
    child = start("sleep", "600")
    (found,) = find_processes("", {child.pid})

    assert found.to_leftover(ended=True, rank=2) == Leftover("process", "sleep 600", child.pid, 2, ended=True)


def test_a_name_with_parentheses_and_spaces_is_read_right(start_python):
    """The process chooses the name in /proc/<pid>/stat."""
    child = start_python(
        "import ctypes, sys\n"
        "ctypes.CDLL(None).prctl(15, b') R 1 1 (', 0, 0, 0)\n"
        "print('named', flush=True)\nsys.stdin.readline()"
    )
    child.read_line()
    process = processes.look_up(child.pid)

    assert process is not None
    assert (process.name, process.ppid, process.sid) == (") R 1 1 (", os.getpid(), child.pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("user", [0, 65534])
def test_a_limit_marks_only_processes_of_this_user(job_id, user):
    """Every user can read the limits of our processes, and lower its own to the same number."""
    source = (
        "import os, signal\nfrom derail.platform import marks\n"
        f"assert marks.set_limit({job_id!r}, 3)\n"
        f"os.setgroups([]); os.setresgid({user}, {user}, {user}); os.setresuid({user}, {user}, {user})\n"
        "print(flush=True); signal.pause()"
    )
    stranger = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)
    try:
        stranger.stdout.readline()
        assert marks.marked_rank(stranger.pid, job_id) == 3
        found = find_processes(job_id, ())
    finally:
        stranger.kill()
        stranger.communicate()

    assert [process.pid for process in found] == ([stranger.pid] if user == 0 else [])


@pytest.fixture
def short():
    """Return a temporary directory with a short path: sockets in its subdirectories are limited to 107 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield directory


def test_a_child_of_a_fork_server_is_no_helper_also_once_the_server_is_dead(
    start_python, job_id, end_later, pid_gone, short
):
    """It shows the command line of its fork server, and cleans up nothing."""
    source = (
        "import multiprocessing, os, time; from multiprocessing.forkserver import _forkserver\n"
        "child = multiprocessing.get_context('forkserver').Process(target=time.sleep, args=(600,)); child.start()\n"
        "print(_forkserver._forkserver_pid, child.pid, flush=True); input()"
    )
    rank = start_python(source, env={JOB_ENV: job_id, "TMPDIR": short})
    server, child = map(end_later, map(int, rank.read_line().split()))
    helpers, others = split(find_processes(job_id, (), exclude={rank.pid}))
    assert server in {each.pid for each in helpers}
    assert [each.pid for each in others] == [child]
    os.kill(server, signal.SIGKILL)
    assert pid_gone(server)
    assert [each.pid for each in split(find_processes(job_id, (), exclude={rank.pid}))[1]] == [child]
    os.kill(child, signal.SIGKILL)
    assert pid_gone(child)


def test_an_ending_child_of_a_keeper_is_recognised(start_python, end_later, monkeypatch, job_id):
    """An ending process shows no environment any more; it is in the session of its keeper."""
    source = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True); input()"
    keeper = start_python(source, env={JOB_ENV: job_id, KEEPER_ENV: "another-job"})
    ending = end_later(int(keeper.read_line()))
    read = leftovers.environment
    monkeypatch.setattr(leftovers, "environment", lambda pid: b"" if pid == ending else read(pid))
    found = find_processes(job_id, (keeper.pid,))
    helpers, others = split(found)

    assert ({each.pid for each in helpers}, others) == ({keeper.pid, ending}, [])


def test_a_process_whose_first_thread_has_ended_is_alive_and_not_exiting(start_python, wait_until):
    """pthread_exit(3) ends a thread; then the kernel shows the process as an exiting zombie, although it still runs."""
    child = start_python(
        "import ctypes, threading\n"
        "input(); threading.Thread(target=input).start(); ctypes.CDLL(None).pthread_exit(None)"
    )
    child.tell("its command line has been seen: it is empty from now on")

    def first_thread_has_ended():
        with open(f"/proc/{child.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"

    wait_until(first_thread_has_ended, what="the first thread has ended")
    assert processes.look_up(child.pid).alive
    assert not processes.is_exiting(child.pid)


def test_a_process_has_no_open_files_after_its_end(start_python, wait_until):
    """A zombie has lost them, and so has one that is gone."""
    child = start_python("input(); input()")
    assert processes.has_open_files(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: not processes.look_up(child.pid).alive, what="it has ended")
    assert not processes.has_open_files(child.pid)


@pytest.mark.usefixtures("table")
def test_a_child_of_a_keeper_is_no_leftover(start_python, end_later, job_id):
    """Its sub-shells, its sleep and grep have its environment, also when the parent between them has ended."""
    sleeper = "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL).pid, flush=True)"
    keepers, others = [
        end_later(int(start_python(sleeper, env={JOB_ENV: job_id, **more}).read_line()))
        for more in ({KEEPER_ENV: "another-job"}, {})
    ]
    found = {each.pid: each for each in find_processes(job_id, ()) if each.command == "sleep 600"}
    helpers, rest = split(list(found.values()))

    assert ([each.pid for each in helpers], [each.pid for each in rest]) == ([keepers], [others])
