"""Exits are detected without reaping, statuses are never invented, and no resource remains."""

from __future__ import annotations

import errno
import gc
import os
import resource
import select
import signal
import threading

import pytest

from derail.model.exit import ExitStatus
from derail.platform import exits
from program_files import program_text

DEADLINE = 60.0
BLOCKED = ("sh", "-c", "read line; exit 7")

_TRACEME = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(0, 0, None, None) != 0:
    os._exit(77)
os.kill(os.getpid(), signal.SIGSTOP)
sys.stdin.readline()
os._exit(7)
"""
_TRACER = program_text("platform/tracer")


def test_a_living_child_has_no_status(start, watch):
    """While a child runs, its descriptor is quiet and there is no status."""
    child = start(*BLOCKED)
    exit_fd = watch(child.pid)

    assert (exits.is_readable(exit_fd.fileno()), exits.peek(child.pid, exit_fd)) == (False, None)
    assert exits.reap(child.pid, exit_fd) is None
    assert exits.is_unreaped(child.pid, exit_fd)


def test_an_exit_is_seen_and_the_child_stays_until_it_is_reaped(start, watch):
    """A child that has ended keeps its pid, and returns its code every time, until ``reap``."""
    child = start(*BLOCKED)
    exit_fd = watch(child.pid)
    child.tell()

    assert exits.wait_readable(exit_fd, DEADLINE)
    assert [exits.peek(child.pid, exit_fd) for _ in range(2)] == [ExitStatus(code=7)] * 2
    assert exits.is_unreaped(child.pid, exit_fd)
    assert exits.reap(child.pid, exit_fd) == ExitStatus(code=7)
    assert not exits.is_unreaped(child.pid, exit_fd)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGRTMIN + 3])
def test_the_signal_that_ended_a_child_is_reported(start, watch, number):
    """A child that was killed has a signal, real-time ones included, and no code."""
    child = start(*BLOCKED)
    exit_fd = watch(child.pid)
    os.kill(child.pid, number)

    assert exits.wait_readable(exit_fd, DEADLINE)
    assert exits.peek(child.pid, exit_fd) == ExitStatus(signal=number)


def test_a_child_that_ended_before_it_was_watched_is_readable_at_once(start, watch):
    """A zombie's descriptor is readable from the beginning."""
    child = start("sh", "-c", "exit 7")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    exit_fd = watch(child.pid)

    assert exits.wait_readable(exit_fd, DEADLINE)
    assert exits.peek(child.pid, exit_fd) == ExitStatus(code=7)


def test_a_child_that_was_reaped_before_it_was_watched_is_lost_and_not_ok(start, watch):
    """A pid that is gone already is readable and lost, never a success."""
    child = start("true")
    os.waitid(os.P_PID, child.pid, os.WEXITED)
    exit_fd = watch(child.pid)

    assert exits.wait_readable(exit_fd, DEADLINE)
    status = exits.peek(child.pid, exit_fd)
    assert status is not None
    assert status.lost is not None
    assert "SIGCHLD" in status.lost
    assert not status.ok


def test_a_stopped_child_has_not_ended(start, watch):
    """SIGSTOP is no exit."""
    child = start(*BLOCKED)
    exit_fd = watch(child.pid)
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)

    assert (exits.is_readable(exit_fd.fileno()), exits.peek(child.pid, exit_fd)) == (False, None)


def test_the_stop_of_a_child_that_we_trace_is_no_exit(start_python, watch):
    """A tracer gets stops whatever it requests; they count as stops, and are not consumed."""
    child = start_python(_TRACEME)
    exit_fd = watch(child.pid)
    stop = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    if stop.si_code == os.CLD_EXITED and stop.si_status == 77:
        pytest.skip("ptrace is not allowed here")

    assert stop.si_code == os.CLD_TRAPPED
    assert exits.peek(child.pid, exit_fd) is None
    assert exits.reap(child.pid, exit_fd) is None
    again = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG)
    assert again is not None
    assert again.si_code == os.CLD_TRAPPED
    os.kill(child.pid, signal.SIGKILL)
    assert exits.wait_readable(exit_fd, DEADLINE)
    assert exits.peek(child.pid, exit_fd) == ExitStatus(signal=signal.SIGKILL)


def test_the_exit_of_a_child_traced_by_another_process_is_known_at_once(start, start_python):
    """A debugger hides a zombie from its parent until it looks; the status is known anyway, and no loop spins."""
    child = start(*BLOCKED)
    exit_fd = exits.open_exit_fd(child.pid, use_pidfd=True)
    tracer = start_python(_TRACER, str(child.pid))
    if (line := tracer.read_line()) != "tracing":
        pytest.skip(f"ptrace is not allowed here: {line}")
    child.tell()

    assert exits.wait_readable(exit_fd, DEADLINE)
    assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    assert exits.peek(child.pid, exit_fd) == ExitStatus(code=7)
    assert exits.reap(child.pid, exit_fd) == ExitStatus(code=7)
    assert exits.is_unreaped(child.pid, exit_fd)
    tracer.tell()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert exits.reap(child.pid, exit_fd) == ExitStatus(code=7)
    assert not exits.is_unreaped(child.pid, exit_fd)
    exit_fd.close()


def _steal(child):
    """Wait for any child in another thread of ours, as careless programs do."""
    stolen = []
    thief = threading.Thread(target=lambda: stolen.append(os.waitpid(-1, 0)))  # noqa: TID251 - the fault itself
    thief.start()
    child.tell()
    thief.join()
    return stolen[0]


def test_the_status_of_a_stolen_wait_comes_from_the_kernel(start):
    """When another thread reaped the child, the status still comes from the kernel, through the pidfd."""
    child = start(*BLOCKED)
    exit_fd = exits.open_exit_fd(child.pid, use_pidfd=True)
    if tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15):
        pytest.skip("before Linux 6.15 a reaped status is gone")

    assert os.waitstatus_to_exitcode(_steal(child)[1]) == 7
    assert exits.wait_readable(exit_fd, DEADLINE)
    assert exits.peek(child.pid, exit_fd) == ExitStatus(code=7)
    assert exits.reap(child.pid, exit_fd) == ExitStatus(code=7)
    assert not exits.is_unreaped(child.pid, exit_fd)
    exit_fd.close()


def test_a_stolen_death_by_signal_comes_from_the_kernel(start):
    """A signal comes through as a signal."""
    child = start(*BLOCKED)
    exit_fd = exits.open_exit_fd(child.pid, use_pidfd=True)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED)

    status = exits.peek(child.pid, exit_fd)
    assert status == ExitStatus(signal=signal.SIGKILL) or (status is not None and status.lost)
    exit_fd.close()


def test_a_stolen_wait_is_lost_without_the_kernels_help(start, watch, monkeypatch):
    """Without the kernel's help the status is lost, has a reason, and is no success."""
    monkeypatch.setattr(exits, "ask_kernel", lambda _: None)
    child = start("sh", "-c", "read line; exit 0")
    exit_fd = watch(child.pid)
    _steal(child)

    assert exits.wait_readable(exit_fd, DEADLINE)
    status = exits.peek(child.pid, exit_fd)
    assert status is not None
    assert (status.ok, status.code, status.signal) == (False, None, None)
    assert f"process {child.pid} was reaped by other code" in str(status)


def test_a_concurrent_wait_never_leads_to_an_invented_status(start):
    """In a race with another waiter, each look returns the true status."""
    seen = []
    for _ in range(40):
        child = start(*BLOCKED)
        exit_fd = exits.open_exit_fd(child.pid, use_pidfd=True)
        thief = threading.Thread(target=os.waitid, args=(os.P_PID, child.pid, os.WEXITED))
        thief.start()
        child.tell()
        exits.wait_readable(exit_fd, DEADLINE)
        seen.append(exits.peek(child.pid, exit_fd))
        thief.join()
        exit_fd.close()

    truth = ExitStatus(code=7)
    assert [status for status in seen if status != truth and not (status and status.lost)] == []


_IGNORING = program_text("platform/ignores_sigchld")


def test_an_ignored_sigchld_never_makes_a_failure_a_success(run_python, use_pidfd):
    """With an ignored SIGCHLD the kernel keeps no zombie: the code comes from the pidfd, or is lost."""
    code, lost = run_python(_IGNORING, str(use_pidfd)).stdout.split()

    assert (code, lost) in ([("7", "False"), ("None", "True")] if use_pidfd else [("None", "True")])


def test_exits_become_readable_in_the_order_in_which_they_happened(start, watch):
    """Three children that ended within one turn of a loop are found in the order of their exits."""
    children = [start(*BLOCKED) for _ in range(3)]
    fds = [watch(child.pid) for child in children]
    with select.epoll() as epoll:
        for exit_fd in fds:
            epoll.register(exit_fd.fileno(), select.EPOLLIN)
        for index in (2, 0, 1):
            children[index].tell()
            assert exits.wait_readable(fds[index], DEADLINE)

        assert [fd for fd, _ in epoll.poll(DEADLINE)] == [fds[index].fileno() for index in (2, 0, 1)]


def test_closing_is_idempotent_and_does_not_touch_the_child(start, use_pidfd):
    """A closed descriptor is -1, and the child still runs."""
    child = start(*BLOCKED)
    exit_fd = exits.open_exit_fd(child.pid, use_pidfd=use_pidfd)
    exit_fd.close()
    exit_fd.close()

    assert (exit_fd.fileno(), exit_fd.pidfd, exit_fd.closed) == (-1, None, True)
    assert exits.peek(child.pid, exit_fd) is None
    child.tell()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert exits.peek(child.pid, exit_fd) == ExitStatus(code=7)


def test_a_dropped_descriptor_is_closed(start, use_pidfd):
    """A handle without ``close`` leaks nothing."""
    child = start(*BLOCKED)
    exit_fd = exits.open_exit_fd(child.pid, use_pidfd=use_pidfd)
    number = exit_fd.fileno()
    del exit_fd
    gc.collect()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_the_descriptor_is_not_inherited(start, watch):
    """No program that is started later holds it."""
    assert not os.get_inheritable(watch(start(*BLOCKED).pid).fileno())


def test_without_a_free_descriptor_there_is_an_error_and_no_leak(start, use_pidfd):
    """EMFILE is raised as such."""
    child = start(*BLOCKED)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(taken) + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            exits.open_exit_fd(child.pid, use_pidfd=use_pidfd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)

    assert caught.value.errno == errno.EMFILE


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_machine_without_pidfds_gets_the_waiting_thread(start, monkeypatch, number):
    """Old kernels return ENOSYS, some sandboxes EPERM; both are handled."""

    def refuse(_pid, _flags=0):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    child = start(*BLOCKED)
    exit_fd = exits.open_exit_fd(child.pid)
    child.tell()

    assert exit_fd.pidfd is None
    assert exits.wait_readable(exit_fd, DEADLINE)
    assert exits.peek(child.pid, exit_fd) == ExitStatus(code=7)
    exit_fd.close()


def test_the_environment_can_turn_pidfds_off(start, monkeypatch):
    """DERAIL_NO_PIDFD chooses the waiting thread."""
    monkeypatch.setenv(exits.NO_PIDFD_ENV, "1")
    child = start(*BLOCKED)
    exit_fd = exits.open_exit_fd(child.pid)

    assert exit_fd.pidfd is None
    exit_fd.close()


def test_a_wait_that_times_out_returns_false(start, watch):
    """``wait_readable`` keeps to its limit."""
    assert not exits.wait_readable(watch(start(*BLOCKED).pid), 0.01)


def test_an_unknown_ioctl_returns_none():
    """On a descriptor that is no pidfd the kernel's refusal becomes None, not an exception."""
    with open(os.devnull) as file:
        assert exits.ask_kernel(file.fileno()) is None
