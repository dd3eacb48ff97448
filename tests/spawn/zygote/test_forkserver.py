"""The zygote behind ``forkserver``: its lifetime, its reports, and the effects of its death."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

import function_rank
import rank_functions as ranks
from derail.model.exit import ExitStatus
from derail.spawn import descriptors
from derail.spawn.spawn_error import StartError
from derail.spawn.zygote import client, pool, server, wire
from function_rank import opened, rank_spec, run, started, wait_readable, wait_status
from program_files import program_text
from wording import Tells


def parent(pid):
    """Return the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def stop(pid):
    """Stop a child of ours, and wait until it is stopped."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


@pytest.fixture
def preload(monkeypatch):
    """Return a function that sets the modules for the fork server to import, as users do."""

    def set_modules(*names):
        server = multiprocessing.forkserver._forkserver
        monkeypatch.setattr(server, "_preload_modules", ["__main__"])
        multiprocessing.set_forkserver_preload(list(names))

    return set_modules


def test_ranks_are_forked_from_one_process_that_ends_with_the_last_of_them(tmp_path):
    """It is started for the first rank, is a child of the launcher, and is reaped when the last handle is closed."""
    with opened(0, 1) as returns:
        with started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever), returns) as first:
            with started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever, rank=1), returns) as second:
                server = parent(first.pid)
                assert (parent(second.pid), parent(server)) == (server, os.getpid())
                (zygote,) = pool._zygotes.values()
            assert os.path.exists(f"/proc/{server}")
        assert not os.path.exists(f"/proc/{server}")
        assert zygote._process.returncode == 0  # it was asked to end, not killed
    assert (pool._zygotes, descriptors.owned()) == ({}, frozenset())


def test_a_rank_is_reaped_though_the_server_notices_its_exit_late():
    """The launcher reads the status from /proc, and is done with the rank before SIGCHLD has reached the server."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    launcher, report = socket.socketpair()
    control, theirs = socket.socketpair()
    with launcher, control, theirs:
        report.setblocking(False)
        fd = report.fileno()
        zygote = server.ZygoteServer(control, os.getpid(), None, "")
        zygote._ranks[fd] = server._Rank(pid, report)
        zygote._poll.register(report)
        launcher.send(server.REAP)
        zygote._read_message(fd)
        assert (zygote._ranks, os.path.exists(f"/proc/{pid}")) == ({}, False)


def test_the_server_kills_its_ranks_when_the_launcher_is_killed(tmp_path, pid_gone):
    """No process is left of a launcher that had no time for a teardown."""
    source = program_text("spawn/host_of_forkserver")
    import subprocess

    words = [sys.executable, "-c", source, str(Path(function_rank.__file__).parent), str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as launcher:
        rank = int(launcher.stdout.readline())
        server = parent(rank)
        launcher.kill()

    assert [pid_gone(server), pid_gone(rank)] == [True, True]


def test_a_rank_outlives_a_killed_server_and_its_status_is_not_invented(tmp_path):
    """The kernel or the new parent may report the status; otherwise it is lost, with a reason."""
    with opened() as returns, started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever), returns) as handle:
        server = parent(handle.pid)
        os.kill(server, signal.SIGKILL)
        assert wait_readable(pool._zygotes[next(iter(pool._zygotes))].exit_fd)
        assert (handle.peek(), wait_readable(handle.exit_fd, 0)) == (None, False)
        assert handle.signal(signal.SIGTERM)
        status = wait_status(handle)

    assert status.signal == signal.SIGTERM or "fork server" in status.lost
    assert not status.ok


def test_a_status_that_neither_a_killed_server_nor_the_kernel_reports_is_lost(tmp_path, monkeypatch):
    """The reason names the process that should have reported it."""
    monkeypatch.setattr(client, "status_of_ended", lambda *_: ExitStatus(lost="reaped"))
    with opened() as returns, started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever), returns) as handle:
        server = parent(handle.pid)
        os.kill(server, signal.SIGKILL)
        assert wait_readable(pool._zygotes[next(iter(pool._zygotes))].exit_fd)
        assert handle.signal(signal.SIGTERM)
        status = wait_status(handle)

    assert status.lost == Tells("fork server", server, handle.pid, "killed")


def test_a_new_server_is_started_when_the_old_one_was_killed(tmp_path):
    """It does not affect a rank that is started later."""
    with opened(0, 1) as returns, started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever), returns) as first:
        server = parent(first.pid)
        os.kill(server, signal.SIGKILL)
        assert wait_readable(pool._zygotes[next(iter(pool._zygotes))].exit_fd)
        with started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever, rank=1), returns) as second:
            assert parent(second.pid) != server


def test_a_stopped_server_does_not_cost_the_status_where_proc_shows_it(tmp_path):
    """A rank has ended, and its parent does not report it: it is not reaped yet, so /proc shows the status at once."""
    with opened() as returns, started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever), returns) as handle:
        server = parent(handle.pid)
        stop(server)
        try:
            handle.signal(signal.SIGKILL)
            assert wait_readable(handle.exit_fd)
            assert str(handle.peek()) == "SIGKILL (9)"
        finally:
            os.kill(server, signal.SIGCONT)


def test_a_stopped_server_costs_the_status_and_not_the_job(tmp_path, monkeypatch):
    """The same where /proc is hidden: unknown at first, lost after a while; never a guess."""
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(client, "status_before_reaping", lambda *_: None)
    with opened() as returns, started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever), returns) as handle:
        server = parent(handle.pid)
        stop(server)
        try:
            handle.signal(signal.SIGKILL)
            assert wait_readable(handle.exit_fd)
            assert handle.peek() is None
            status = wait_status(handle)
            assert (handle.peek(), status.ok) == (status, False)
        finally:
            os.kill(server, signal.SIGCONT)

    assert status.lost == Tells("fork server", server, "0.2 s", handle.pid)


def test_a_stopped_server_is_killed_when_it_is_needed_no_more(tmp_path, monkeypatch, pid_gone):
    """Closing the last handle is bounded."""
    monkeypatch.setattr(pool, "QUIT_SECONDS", 0.2)
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.0)
    with opened() as returns, started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever), returns) as handle:
        server = parent(handle.pid)
        stop(server)

    assert pid_gone(server)


def test_a_fork_of_the_launcher_does_not_own_the_server(tmp_path):
    """Closing a copy of the handle elsewhere ends nothing."""
    with opened() as returns, started(rank_spec(tmp_path, "forkserver", ranks.give, (5,)), returns) as handle:
        with descriptors.kept_by_forks(descriptors.owned()):
            pid = os.fork()
        if pid == 0:
            try:
                handle.close()
            finally:
                os._exit(0)
        os.waitid(os.P_PID, pid, os.WEXITED)
        assert wait_readable(returns.done_fd)
        returns.release()
        assert (wait_status(handle), handle.result().value) == (ExitStatus(code=0), 5)


def test_the_server_ends_with_the_launcher_although_a_fork_of_that_survives(tmp_path, pid_gone):
    """It watches the process and not only the socket, of which other processes may hold a copy."""
    source = program_text("spawn/host_with_fork")
    import subprocess

    words = [sys.executable, "-c", source, str(Path(function_rank.__file__).parent), str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as launcher:
        rank = int(launcher.stdout.readline())
        assert pid_gone(rank)


def test_preloaded_modules_are_imported_before_the_rank_exists(tmp_path, preload, monkeypatch):
    """Modules set for multiprocessing are imported once, in the server; others are not."""
    (tmp_path / "heavy_module.py").write_text("import os\nLOADED_IN = os.getpid()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(tmp_path, "forkserver", ranks.loaded, "heavy_module").value is False
    preload("heavy_module")

    assert run(tmp_path, "forkserver", ranks.loaded, "heavy_module").value is True


def test_each_set_of_preloaded_modules_has_its_own_server(tmp_path, preload):
    """A change of the set takes effect at once, also while another server runs."""
    with opened(0, 1) as returns, started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever), returns) as first:
        preload("colorsys")
        with started(rank_spec(tmp_path, "forkserver", ranks.loaded, ("colorsys",), rank=1), returns) as second:
            assert parent(first.pid) != parent(second.pid)
            assert wait_readable(returns.done_fd)
            assert second.result().value is True


def test_a_module_that_cannot_be_preloaded_is_reported_and_has_no_other_effect(tmp_path, preload, capfd):
    """As with multiprocessing, the rank that needs it fails by itself."""
    preload("no_such_module_anywhere")

    assert run(tmp_path, "forkserver", ranks.give, 1).value == 1
    assert "could not preload 'no_such_module_anywhere'" in capfd.readouterr().err


def test_a_server_that_ends_while_it_preloads_is_an_error_of_the_start(tmp_path, preload, monkeypatch):
    """The error states it, and nothing is left."""
    (tmp_path / "deadly_module.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    preload("deadly_module")

    with opened() as returns, pytest.raises(StartError, match=r"fork server \(process \d+\) ended while starting it"):
        function_rank.start_function(rank_spec(tmp_path, "forkserver", ranks.give, (1,)), returns)


def test_many_ranks_at_once(tmp_path):
    """None is confused with another."""
    with opened(*range(16)) as returns:
        handles = [
            function_rank.start_function(rank_spec(tmp_path, "forkserver", ranks.leave_at_once, (n,), rank=n), returns)
            for n in range(16)
        ]
        statuses = [wait_status(handle).code for handle in handles]
        for handle in reversed(handles):
            handle.reap()
            handle.close()

    assert statuses == list(range(16))


def test_a_handle_that_is_closed_early_leaves_a_rank_that_is_reaped_in_the_end(tmp_path, wait_until):
    """The server reaps ranks without a handle."""
    with opened(0, 1) as returns, started(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever), returns):
        other = function_rank.start_function(rank_spec(tmp_path, "forkserver", ranks.wait_for_ever, rank=1), returns)
        other.close()
        os.kill(other.pid, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{other.pid}"), what="it has left the process table")


@pytest.mark.parametrize(
    "status",
    [ExitStatus(code=0), ExitStatus(code=255), ExitStatus(signal=9), ExitStatus(signal=11, core_dumped=True)],
    ids=str,
)
def test_a_status_round_trips(status):
    """The launcher decodes the status that the server detected."""
    assert server.decode(server.encode(status)) == status


def test_frames_carry_any_number_of_descriptors():
    """More than the kernel accepts at a time are sent in several messages, in order."""
    import socket

    ours, theirs = socket.socketpair()
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(450)]
    got = []
    try:
        with ours, theirs:
            wire.send_fork(ours, fds)
            wire.send_quit(ours)
            verbs = []
            while True:
                frame = wire.receive(theirs)
                verbs.append(frame.verb)
                got += frame.fds
                if frame.verb == wire.QUIT:
                    break
            ours.close()
            assert wire.receive(theirs) is None
        assert (verbs, len(got)) == ([wire.MORE, wire.MORE, wire.FORK, wire.QUIT], 450)
    finally:
        for fd in (*fds, *got):
            os.close(fd)
