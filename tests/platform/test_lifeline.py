"""No process of a job outlives its launcher, whatever killed that; the keeper itself is harmless and leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest

from derail.model.spec import JOB_ENV
from derail.platform import exits, lifeline, processes
from derail.platform.leftovers import find_processes
from derail.platform.lifeline import Lifeline
from program_files import program_text

DEADLINE = 60.0

_LAUNCHER = program_text("platform/launcher")


def _shells():
    found = [path for path in ("/bin/sh", shutil.which("bash"), shutil.which("busybox")) if path]
    return [*found, "/nonexistent"]


@pytest.fixture
def job_id():
    """A mark that is unique to the test."""
    return f"job-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def line(job_id):
    """Return a started lifeline, and stop it after the test."""
    one = Lifeline(job_id)
    one.start()
    yield one
    one.stop()


def _hold(pids):
    return {pid: os.pidfd_open(pid) for pid in pids}


def _release(pidfds):
    for pidfd in pidfds.values():
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(pidfd)


@pytest.mark.parametrize("registered", ["registered", "unregistered", "behind many"])
@pytest.mark.parametrize("shell", _shells())
def test_a_sigkilled_launcher_leaves_no_process(start_python, job_id, shell, registered):
    """The rank, its helper, a helper in another session and a rank without the mark are gone within moments, and so is
    the keeper. This holds if the launcher died before it could register any rank, and if the registered lines exceed
    the capacity of the pipe that is read only at the end."""
    launcher = start_python(_LAUNCHER, job_id, shell, registered)
    keeper, *pids = map(int, launcher.read_line().split())
    pidfds = _hold([keeper, *pids])
    try:
        os.kill(launcher.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        gone = {pid: exits.is_readable(pidfds[pid], DEADLINE) for pid in pids}
        print(f"{shell}: all ranks gone {time.monotonic() - killed_at:.3f} s after the launcher was killed")

        assert gone == dict.fromkeys(pids, True)
        assert exits.is_readable(pidfds[keeper], DEADLINE)
    finally:
        _release(pidfds)


_LATE_HELPER = program_text("platform/late_helper")
_ITS_LAUNCHER = program_text("platform/launcher_of_late_helper")


@pytest.mark.parametrize("shell", _shells())
def test_a_helper_in_the_middle_of_its_exec_is_spared(start_python, job_id, shell, tmp_path):
    """For a moment it has no command line: here from before its launcher's death until its rank is dead."""
    file = tmp_path / "unlinked by the helper"
    file.touch()
    launcher = start_python(_ITS_LAUNCHER, job_id, shell, _LATE_HELPER, str(file))
    keeper, rank = map(int, launcher.read_line().split())
    pidfds = _hold([keeper, rank])
    try:
        os.kill(launcher.pid, signal.SIGKILL)
        assert exits.is_readable(pidfds[rank], DEADLINE)
        (helper,) = [found.pid for found in find_processes(job_id, ())]
        pidfds |= _hold([helper])
        assert not exits.is_readable(pidfds[helper], 1.0)
        file.unlink()
        assert exits.is_readable(pidfds[helper], DEADLINE)
        assert exits.is_readable(pidfds[keeper], DEADLINE)
    finally:
        _release(pidfds)


def test_a_launcher_that_simply_exits_leaves_no_process(start_python, job_id):
    """Reaching the end without ``stop`` is the launcher's end as well."""
    launcher = start_python(_LAUNCHER, job_id, "/bin/sh", "registered")
    pidfds = _hold(map(int, launcher.read_line().split()))
    try:
        launcher.tell()

        assert all(exits.is_readable(pidfd, DEADLINE) for pidfd in pidfds.values())
    finally:
        _release(pidfds)


def test_a_peaceful_stop_ends_no_rank_and_leaves_nothing(start, job_id):
    """After ``stop`` the keeper is gone and reaped, and registered and marked processes still run."""
    child = start("sh", "-c", "read line; exit 7", env={JOB_ENV: job_id})
    before = set(os.listdir("/proc/self/fd"))
    line = Lifeline(job_id)
    line.start()
    keeper = line.pid
    assert line.register(child.pid)
    line.stop()
    line.stop()

    assert (line.fd, line.pid, line.exit_fd, line.alive()) == (-1, None, None, False)
    assert processes.look_up(keeper) is None
    assert set(os.listdir("/proc/self/fd")) == before
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def test_the_keeper_ignores_the_signals_of_a_terminal_and_of_a_shutdown(line):
    """Ctrl-C, a hang-up or a TERM to all processes must not end the process that cleans up."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        os.kill(line.pid, number)
    assert line.register(4194304)

    assert not exits.is_readable(line.exit_fd.fileno(), 0.2)
    assert line.alive()


def test_a_rank_that_was_unregistered_is_not_ended(start, start_python, job_id):
    """A reaped pid may be reused: it is removed from the list."""
    stranger, rank = start("sleep", "600"), start("sleep", "600")
    source = program_text("platform/unregisters")
    launcher = start_python(source, job_id, str(stranger.pid), str(rank.pid))
    pidfds = _hold([int(launcher.read_line())])
    os.kill(launcher.pid, signal.SIGKILL)

    assert all(exits.is_readable(pidfd, DEADLINE) for pidfd in pidfds.values())
    _release(pidfds)
    assert os.waitid(os.P_PID, rank.pid, os.WEXITED | os.WNOWAIT).si_status == signal.SIGKILL
    assert os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def test_another_jobs_processes_are_not_ended(start, start_python, job_id):
    """An id with the same beginning is another job's."""
    other = start("sleep", "600", env={JOB_ENV: f"{job_id}x"})
    launcher = start_python(_LAUNCHER, job_id, "/bin/sh", "registered")
    pidfds = _hold(map(int, launcher.read_line().split()))
    os.kill(launcher.pid, signal.SIGKILL)
    assert all(exits.is_readable(pidfd, DEADLINE) for pidfd in pidfds.values())
    _release(pidfds)

    assert os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def test_a_forked_child_of_the_host_does_not_hold_the_line(start_python, job_id, pid_gone):
    """A fork that outlives the launcher has not kept the write end: the keeper notices the end of the pipe."""
    source = program_text("platform/forked_keeper")
    launcher = start_python(source, job_id)
    keeper, fork = map(int, launcher.read_line().split())
    pidfds = _hold([keeper, fork])
    try:
        os.kill(launcher.pid, signal.SIGKILL)

        assert exits.is_readable(pidfds[keeper], DEADLINE)
        assert not exits.is_readable(pidfds[fork])
    finally:
        _release(pidfds)
    assert pid_gone(fork)


def test_a_forked_rank_registers_itself(start_python, job_id):
    """A process forked inside ``adopts_forks`` ends with the launcher, though it has no mark and was not registered."""
    source = program_text("platform/adopted_fork")
    launcher = start_python(source, job_id)
    pidfds = _hold([int(launcher.read_line())])
    try:
        os.kill(launcher.pid, signal.SIGKILL)

        assert all(exits.is_readable(pidfd, DEADLINE) for pidfd in pidfds.values())
    finally:
        _release(pidfds)


def test_a_keeper_that_died_is_noticed(line):
    """``register`` returns False, without SIGPIPE, and the exit descriptor is readable."""
    old = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.kill(line.pid, signal.SIGKILL)
        assert exits.wait_readable(line.exit_fd, DEADLINE)

        assert (line.alive(), line.register(os.getpid())) == (False, False)
    finally:
        signal.signal(signal.SIGPIPE, old)


def test_a_hung_keeper_blocks_no_caller_and_is_ended(job_id):
    """A stopped keeper does not read: ``register`` returns False when the pipe is full, and ``stop`` kills it."""
    line = Lifeline(job_id)
    line.start()
    keeper = line.pid
    os.kill(keeper, signal.SIGSTOP)
    os.waitid(os.P_PID, keeper, os.WSTOPPED | os.WNOWAIT)
    while line.register(4194304):
        pass
    line.stop(time.monotonic() + 0.05)

    assert processes.look_up(keeper) is None


def test_the_keeper_has_no_mark_and_no_session_of_ours(job_id, monkeypatch):
    """A sweep of the job, or of an outer job, does not end its keeper."""
    monkeypatch.setenv(JOB_ENV, f"outer:{job_id}")
    line = Lifeline(job_id)
    line.start()
    info = processes.look_up(line.pid)
    found = find_processes(job_id, ())
    line.stop()

    assert found == []
    assert info.sid == info.pid


def test_it_may_be_started_in_a_thread_that_ends(job_id):
    """The end of the thread that started the keeper is not the end of the job."""
    line = Lifeline(job_id)
    thread = threading.Thread(target=line.start)
    thread.start()
    thread.join()

    assert line.alive()
    assert not exits.is_readable(line.exit_fd.fileno(), 0.1)
    line.stop()


def test_the_ends_of_the_pipe_are_not_inherited(line):
    """No executed rank holds the pipe."""
    assert not os.get_inheritable(line.fd)
    pipe = os.readlink(f"/proc/self/fd/{line.fd}")
    source = "import os; [print(os.path.realpath(f'/proc/self/fd/{fd}')) for fd in os.listdir('/proc/self/fd')]"
    held = subprocess.run([sys.executable, "-c", source], close_fds=False, capture_output=True, text=True, check=True)

    assert pipe not in held.stdout


def test_a_start_that_fails_leaves_nothing(job_id, monkeypatch):
    """Without an exit descriptor there is no keeper, no pipe, no child."""

    def refuse(_pid):
        raise OSError(24, "Too many open files")

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(exits, "open_exit_fd", refuse)
    line = Lifeline(job_id)
    with pytest.raises(OSError, match="Too many open files"):
        line.start()

    assert set(os.listdir("/proc/self/fd")) == before
    assert (line.fd, line.pid) == (-1, None)


@pytest.mark.parametrize("pid", [1, 0, -1, -2])
def test_a_number_that_addresses_all_processes_is_never_registered(line, pid):
    """``kill -9 -1`` ends all processes of the machine; such a number does not reach the keeper."""
    assert line.register(pid) is False


@pytest.mark.parametrize("through", ["stdin", "list"])
@pytest.mark.parametrize("shell", _shells())
def test_the_keeper_itself_ignores_numbers_that_address_all_processes(shell, through, tmp_path, job_id, monkeypatch):
    """Whatever arrives on the pipe, only numbers above 1 are signalled. ``kill`` is a stand-in that records its
    argument: the real one would end all processes if the keeper were wrong."""
    noted = tmp_path / "noted"
    noted.touch()
    monkeypatch.setattr(lifeline, "SHELL", shell)
    program, *rest = Lifeline(job_id)._command()
    where = next(index for index, word in enumerate(rest) if len(word) > 100)
    if "python" in os.path.basename(program):
        rest[where] = f"import os\nos.kill = lambda pid, _: print(pid, file=open({str(noted)!r}, 'a'))\n{rest[where]}"
    else:
        rest[where] = f'kill() {{ echo "$2" >> {noted}; }}\n{rest[where]}'
    lines = "+1\n+0\n+01\n+\n+-1\n+ 1\n+1 1\n+x\n1\n-1\n+4194305\n"
    (tmp_path / "list").write_text(lines if through == "list" else "")
    with (tmp_path / "list").open() as listed:
        subprocess.run(
            [program, *rest], input=lines if through == "stdin" else "", stdout=listed, text=True, check=False
        )

    assert set(noted.read_text().split()) == {"-4194305", "4194305"}


@pytest.mark.parametrize("name", ["", "a b", "a;rm -rf", "$(id)", "a:b", "é"])
def test_a_job_id_that_a_shell_could_misread_is_refused(name):
    """The id is passed to a shell and a regular expression."""
    with pytest.raises(ValueError, match="letters, digits"):
        Lifeline(name)


def test_it_is_started_once(line):
    """A second start is a mistake of the caller."""
    with pytest.raises(RuntimeError, match="started already"):
        line.start()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="command lines are read in /proc")
def test_no_command_line_contains_the_mark_of_a_job(line, job_id):
    """Every user can read those, and mark a process so that it seems to belong to the job."""
    assert line.pid is not None
    with open(f"/proc/{line.pid}/cmdline", "rb") as file:
        assert job_id.encode() not in file.read()
