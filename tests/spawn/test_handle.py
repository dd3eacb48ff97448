"""The contract of ``ProcessHandle``: every kind of rank is started, watched, signalled and reaped alike."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import function_rank
import rank_functions
from derail.model.exit import ExitStatus
from derail.model.spec import Command, Streams
from derail.platform import exits
from derail.spawn.command import start_command
from derail.spawn.spawn_error import StartError
from derail.spawn.start import start_rank
from function_rank import METHODS, opened, rank_spec, read, wait_done_or_end, wait_readable, wait_status

WITHOUT_PIDFD = "program without pidfd"
PROGRAMS = ("program", WITHOUT_PIDFD)
CHILDREN = (*PROGRAMS, "spawn", "fork")
"""Kinds with a child of this process, so that a wait for any child can take the status away."""
OF_FAULTHANDLER = (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)
"""Signals on which function ranks write their stacks, by Python's faulthandler."""


@pytest.fixture(params=[*PROGRAMS, *METHODS])
def kind(request):
    """Each kind of rank; programs also with a waiting thread instead of a pidfd."""
    return request.param


@pytest.fixture
def start(tmp_path, kind):
    """Return a function that starts a rank with a function of ``rank_functions``; end and reap it after the test."""
    with ExitStack() as stack:

        def begin(name, *args, **changes):
            spec = rank_spec(tmp_path, "spawn", None, **changes)
            returns = stack.enter_context(opened(spec.rank))
            handle = start_kind(kind, spec, name, args, returns)
            stack.callback(end, handle)
            return handle

        yield begin


def start_kind(kind, spec, name, args, returns):
    """Start a rank of this kind, with the setting of ``spec``."""
    if kind in PROGRAMS:
        tests = str(Path(function_rank.__file__).parent)
        source = f"import sys; sys.path.insert(0, {tests!r}); import rank_functions; rank_functions.{name}(*{args!r})"
        spec = replace(spec, run=Command((sys.executable, "-c", source)))
        return start_command(spec, use_pidfd=kind == "program")
    function = getattr(rank_functions, name)
    return start_rank(
        replace(spec, run=replace(spec.run, target=function, args=args, start_method=kind)), returns=returns
    )


def end(handle):
    """End a rank if it lives, and close its handle."""
    if handle.exit_fd >= 0:
        if handle.reap() is None:
            handle.signal(signal.SIGKILL, group=True)
            wait_status(handle)
            handle.reap()
        handle.close()


def ended(tmp_path, kind, name, *args, **changes):
    """Run a rank to its end; return its status, and the content of its streams."""
    spec = rank_spec(tmp_path, "spawn", None, **changes)
    with opened(spec.rank) as returns:
        handle = start_kind(kind, spec, name, args, returns)
        try:
            wait_done_or_end(handle, returns)
            returns.release()
            status = wait_status(handle)
        finally:
            end(handle)
    return status, read(spec.streams.stdout), read(spec.streams.stderr)


def told(tmp_path, kind, name, *args, **changes):
    """Return the value of a function of ``rank_functions`` in a rank, sent through its stdout."""
    status, stdout, stderr = ended(tmp_path, kind, "say", name, *args, **changes)
    assert status == ExitStatus(code=0), stderr
    return json.loads(stdout)


def state_of(pid):
    """Return the letter of /proc for the state of a process; none if it is not in the process table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


# ---- status


def test_a_rank_leads_its_session_and_group(start):
    """Its pid is that of its session and group, and the handle has its rank."""
    handle = start("wait_for_ever", rank=3)

    assert (os.getsid(handle.pid), os.getpgid(handle.pid), handle.rank) == (handle.pid, handle.pid, 3)


def test_a_living_rank_has_no_status_and_is_not_reaped(start, kind):
    """Also while it is stopped. Its pidfd can be polled, unless it has none."""
    handle = start("wait_for_ever")

    assert (handle.peek(), handle.reap(), wait_readable(handle.exit_fd, 0)) == (None, None, False)
    assert (handle.pidfd is None) == (kind == WITHOUT_PIDFD)
    assert handle.signal(signal.SIGSTOP)
    assert (handle.peek(), handle.reap(), wait_readable(handle.exit_fd, 0.1)) == (None, None, False)


@pytest.mark.parametrize(
    ("name", "args", "status"),
    [("leave_at_once", (7,), ExitStatus(code=7)), ("interrupt_by_signal", (), ExitStatus(signal=signal.SIGINT))],
    ids=["exit", "signal"],
)
def test_an_exit_status_is_returned_before_and_after_reaping(start, wait_until, name, args, status):
    """``peek`` does not reap, ``reap`` does it once, and both keep returning the same."""
    handle = start(name, *args)

    assert wait_status(handle) == status
    assert (state_of(handle.pid), handle.peek()) == ("Z", status)
    assert [handle.reap(), handle.reap(), handle.peek()] == [status] * 3
    wait_until(lambda: not state_of(handle.pid), what="it has left the process table")
    handle.close()
    handle.close()
    assert (handle.peek(), handle.exit_fd, handle.pidfd) == (status, -1, None)


@pytest.mark.parametrize("kind", CHILDREN, indirect=True)
def test_the_status_of_a_rank_reaped_by_other_code_is_not_invented(start):
    """It comes from the kernel, or is lost; no signal is sent to a pid that may have been reused."""
    handle = start("leave_at_once", 0)
    os.waitid(os.P_PID, handle.pid, os.WEXITED)
    assert exits.is_readable(handle.exit_fd, function_rank.DEADLINE)

    status = handle.peek()
    assert status == ExitStatus(code=0) if handle.pidfd and not status.lost else status.lost
    assert [handle.signal(signal.SIGKILL, group=group) for group in (True, False)] == [False, False]
    assert handle.reap() == status


# ---- signals


def test_a_signal_reaches_only_a_live_rank(start, tmp_path, wait_until):
    """False once it has ended, before it is reaped and after."""
    handle = start("exit_7_on_sigusr1", str(tmp_path / "ready"))
    wait_until((tmp_path / "ready").exists)

    assert handle.signal(signal.SIGUSR1)
    assert wait_status(handle) == ExitStatus(code=7)
    assert not handle.signal(signal.SIGUSR1)
    handle.reap()
    assert [handle.signal(signal.SIGUSR1, group=group) for group in (False, True)] == [False, False]


def test_the_group_is_signalled_after_its_leader_has_died(start, tmp_path, pid_gone):
    """A helper does not survive because the rank is dead already."""
    handle = start("leave_a_helper", str(tmp_path / "helper"))
    assert wait_status(handle) == ExitStatus(code=3)

    assert handle.signal(signal.SIGKILL, group=True)
    assert pid_gone(int((tmp_path / "helper").read_text()))


@pytest.mark.parametrize("kind", CHILDREN, indirect=True)
def test_a_group_with_a_leader_reaped_by_other_code_is_not_signalled(start, tmp_path, pid_gone):
    """The pid may have been reused; a sweep finds such helpers one by one."""
    handle = start("leave_a_helper", str(tmp_path / "helper"))
    wait_status(handle)
    helper = os.pidfd_open(int((tmp_path / "helper").read_text()))
    os.waitid(os.P_PID, handle.pid, os.WEXITED)
    sent = handle.signal(signal.SIGKILL, group=True)
    alive = not exits.is_readable(helper, 0.1)
    signal.pidfd_send_signal(helper, signal.SIGKILL)
    assert wait_readable(helper)
    os.close(helper)

    assert (sent, alive) == (False, True)


def test_closing_the_handle_leaves_a_living_rank_alone(start, wait_until):
    """An abandoned rank is not killed by it; the process that started the rank reaps it."""
    handle = start("wait_for_ever")
    pidfd = os.pidfd_open(handle.pid)
    try:
        handle.close()
        assert (handle.exit_fd, handle.pidfd, wait_readable(pidfd, 0.2)) == (-1, None, False)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert wait_readable(pidfd)
        wait_until(lambda: state_of(handle.pid) in ("", "Z") and (handle.reap() or not state_of(handle.pid)))
    finally:
        os.close(pidfd)


# ---- environment


def test_the_working_directory_is_the_specs_or_the_launchers(tmp_path, kind, monkeypatch):
    """Without ``cwd`` it is where the launcher is now."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    monkeypatch.chdir(one)

    assert told(tmp_path, kind, "where") == str(one)
    assert told(tmp_path, kind, "where", cwd=two, streams=Streams(tmp_path / "second")) == str(two)


def test_streams_go_into_their_files(tmp_path, kind):
    """Output of Python, descriptors and children is appended to that of an earlier attempt."""
    (tmp_path / "out-0").write_text("before\n")
    _, stdout, stderr = ended(tmp_path, kind, "speak")

    assert stdout == "before\nto stdout\nto descriptor 1\nfrom a child\nwithout a line end"
    assert stderr == "to stderr\nto descriptor 2\n"


def test_both_streams_may_be_one_file(tmp_path, kind):
    """Neither overwrites the other."""
    _, both, _ = ended(tmp_path, kind, "speak", streams=Streams(tmp_path / "both", tmp_path / "both"))

    lines = sorted(both.replace("without a line end", "").splitlines())
    assert lines == ["from a child", "to descriptor 1", "to descriptor 2", "to stderr", "to stdout"]


def test_a_rank_is_bound_to_its_cpus_and_the_launcher_is_not(tmp_path, kind):
    """From its first instruction on."""
    before = os.sched_getaffinity(0)

    assert told(tmp_path, kind, "cpus", cpus=frozenset({max(before)})) == [max(before)]
    assert os.sched_getaffinity(0) == before


@contextmanager
def a_disturbed_host():
    """Set handlers, a mask, a wakeup descriptor and ignored signals, as some hosts do."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTERM])
    for number in numbers:
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wakeup = signal.set_wakeup_fd(writing)
    try:
        yield
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask | {signal.SIGUSR2, signal.SIGTERM}
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(reading)
        os.close(writing)


def test_signals_have_the_actions_of_a_fresh_interpreter(tmp_path, kind):
    """No handler, mask or wakeup descriptor of the launcher reaches a rank; ignored signals stay ignored."""
    with a_disturbed_host():
        found = told(tmp_path, kind, "dispositions")

    python = {int(number): handler for number, handler in found["python"].items()}
    ignored = {number for number, handler in python.items() if handler == str(signal.Handlers.SIG_IGN)}
    handled = {number for number, handler in python.items() if handler.startswith("<")}
    assert ignored == {signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ}
    assert handled == {signal.SIGINT}
    assert (found["kernel"]["SigBlk"], found["kernel"]["SigPnd"], found["wakeup"]) == (0, 0, -1)
    caught = {signal.SIGINT} if kind in PROGRAMS else {signal.SIGINT, *OF_FAULTHANDLER}
    assert found["kernel"]["SigCgt"] == sum(1 << number - 1 for number in caught)


# ---- failed starts


def test_a_wrong_directory_is_an_error_of_the_start(start, tmp_path):
    """It names the rank and the directory, and nothing is left."""
    with pytest.raises(StartError, match=r"rank 2 could not be started: its working directory .*missing"):
        start("where", rank=2, cwd=tmp_path / "missing")


def test_a_stream_that_cannot_be_opened_is_an_error_of_the_start(start, tmp_path):
    """It names the file."""
    with pytest.raises(StartError, match=r"missing/out'.*its directory does not exist"):
        start("where", streams=Streams(tmp_path / "missing" / "out", None))
