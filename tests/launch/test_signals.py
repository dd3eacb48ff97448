"""Signals to the launcher: raised once, escalated, forwarded, and handlers restored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from derail import SignalException
from program_files import program_text

HANG = "exec sleep 600"
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@pytest.fixture(autouse=True)
def _usual_handlers():
    """Use default handlers: a runner under ``nohup``, or in the background of a shell, ignores some signals."""
    ignored = {number: signal.SIG_IGN for number in HANDLED if signal.getsignal(number) == signal.SIG_IGN}
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in ignored.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", HANDLED)
def test_a_signal_raises_in_the_main_thread_and_close_ends_the_job(jobs, number):
    """The documented pattern: SignalException out of ``wait``, then ``close`` with the signal."""
    context = jobs.sh(HANG, HANG)
    with pytest.raises(SignalException) as caught:
        signal.raise_signal(number)
        context.wait(60)
    assert caught.value.sigval == number
    context.close(caught.value.sigval)
    assert len(context.wait(0).stopped) == 2


def test_handlers_are_restored(jobs):
    """Handlers from before the job are set after it, in whatever order jobs end."""
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    before = [signal.getsignal(number) for number in HANDLED]
    first, second = jobs.sh(HANG), jobs.sh(HANG)
    assert signal.getsignal(signal.SIGINT) != before[1]
    first.close()
    second.close()
    assert [signal.getsignal(number) for number in HANDLED] == before
    signal.signal(signal.SIGTERM, mine)


def test_handlers_are_restored_when_the_job_ends_by_itself(jobs):
    """``wait`` that returns a result leaves no handler behind."""
    before = [signal.getsignal(number) for number in HANDLED]
    jobs.sh("exit 0").wait(60)
    assert [signal.getsignal(number) for number in HANDLED] == before


def test_handlers_of_a_job_that_was_closed_in_a_thread_delegate(jobs):
    """A thread cannot restore handlers; until the main thread does, they call the previous ones."""
    heard = []
    mine = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    context = jobs.sh(HANG)
    closer = threading.Thread(target=context.close)
    closer.start()
    closer.join(60)
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    context.close()
    signal.signal(signal.SIGTERM, mine)


def test_a_signal_during_the_restoration_of_handlers_is_not_lost(jobs, monkeypatch):
    """Right before the previous handler is restored, a signal has the same effect as without a job."""
    heard, set_handler = [], signal.signal
    mine = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))

    def late(number, handler):
        if number == signal.SIGTERM:
            signal.raise_signal(number)
        return set_handler(number, handler)

    context = jobs.sh("exit 0")
    monkeypatch.setattr(signal, "signal", late)
    context.wait(60)
    monkeypatch.undo()
    signal.signal(signal.SIGTERM, mine)
    assert heard == [signal.SIGTERM]


def test_an_ignored_signal_stays_ignored(jobs):
    """``nohup``: SIGHUP was ignored before the job, and the job does not change that."""
    mine = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    context = jobs.sh(HANG)
    os.kill(os.getpid(), signal.SIGHUP)
    assert context.wait(0.05) is None
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    context.close()
    signal.signal(signal.SIGHUP, mine)


def test_the_signals_to_handle_can_be_named(jobs, monkeypatch, caplog):
    """TORCHELASTIC_SIGNALS_TO_HANDLE replaces the list; a name that is no signal is logged and left out."""
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGUSR2, SIGNOPE")
    before = signal.getsignal(signal.SIGTERM)
    context = jobs.sh(HANG)
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(SignalException):
        signal.raise_signal(signal.SIGUSR2)
        context.wait(60)
    assert "SIGNOPE" in caplog.text
    context.close()


def test_a_forwarded_signal_reaches_each_rank_once_and_the_job_continues(jobs):
    """SIGUSR1 to the launcher is one SIGUSR1 for every rank; no rank is stopped."""
    script = (
        'n=0; trap "n=\\$((n+1)); echo \\$n > $DIR/got$RANK.tmp; mv $DIR/got$RANK.tmp $DIR/got$RANK" USR1; '
        'echo ready > "$DIR/r.$RANK"; mv "$DIR/r.$RANK" "$DIR/ready$RANK"; '
        'while [ ! -e "$DIR/go" ]; do sleep 0.01; done; exit 0'
    )
    context = jobs.sh(script, script, forward_signals=["SIGUSR1"])
    assert [jobs.file(f"ready{rank}") for rank in range(2)] == ["ready"] * 2
    signal.raise_signal(signal.SIGUSR1)
    assert [jobs.file(f"got{rank}") for rank in range(2)] == ["1", "1"]
    (jobs.directory / "go").touch()
    assert context.wait(60).succeeded


LAUNCHER = program_text("launch/launcher_with_deaf_ranks")


@pytest.mark.parametrize("signals", [["SIGTERM"] * 2, ["SIGINT"] * 3, ["SIGINT", "SIGTERM", "SIGHUP"]])
def test_further_signals_during_the_teardown_escalate_and_never_abort_it(jobs, tmp_path, pid_gone, signals):
    """Ctrl-C twice, or three times, while ranks ignore it: they are killed at once, and the launcher ends in order."""
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER],
        env={**os.environ, "DIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with launcher:
        assert launcher.stdout.readline() == b"started\n"
        pids = [int(jobs.file(f"ready{rank}")) for rank in range(2)]
        launcher.send_signal(signal.Signals[signals[0]])
        assert launcher.stdout.readline() == b"closing\n"
        for name in signals[1:]:
            launcher.send_signal(signal.Signals[name])
        ended_by = json.loads(launcher.stdout.readline())
        launcher.stdin.write(b"all sent\n")
        launcher.stdin.flush()
        code = launcher.wait(60)
    assert (ended_by, code) == ([9, 9], 0)
    assert [pid_gone(pid) for pid in pids] == [True, True]


STARTING = program_text("launch/slow_start")


SECOND = program_text("launch/two_signals_at_start")


def test_a_second_signal_right_after_the_end_of_the_job_is_still_for_the_job(run_python):
    """It does not end a launcher that has not reported yet why its job ended; a later one acts as without a job."""
    done = run_python(SECOND, check=False)
    assert (done.stdout, done.returncode) == ("raised SIGTERM\n", -signal.SIGTERM)


def test_a_sigterm_while_ranks_are_being_started_leaves_nothing(jobs, tmp_path, pid_gone):
    """The launcher is asked to end between rank 2 and rank 49: those that run are ended, the others never start."""
    launcher = subprocess.Popen(
        [sys.executable, "-c", STARTING],
        env={**os.environ, "DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    with launcher:
        assert launcher.stdout.readline() == b"starting\n"
        launcher.send_signal(signal.SIGTERM)
        assert launcher.stdout.readline() == b"raised SIGTERM\n"
        assert launcher.wait(60) == 0
    started = [int(line) for line in (tmp_path / "pids").read_text().split()] if (tmp_path / "pids").exists() else []
    assert [pid_gone(pid) for pid in started] == [True] * len(started)
    assert len(started) <= 3


def blocked(status):
    """Return the signals that a thread blocks, from its ``status`` in /proc."""
    return next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))


def test_signals_are_not_taken_by_the_thread_that_supervises(jobs):
    """A signal to that thread would not wake the main thread: Ctrl-C twice would end nothing."""
    context = jobs.sh(HANG)
    thread = next(thread for thread in threading.enumerate() if thread.name == "derail-job")
    mask = int(blocked(Path(f"/proc/self/task/{thread.native_id}/status").read_text()), 16)
    assert [mask >> number - 1 & 1 for number in HANDLED] == [1] * len(HANDLED)
    context.close()


@pytest.mark.parametrize("method", ["program", "spawn", "fork", "forkserver", "warm"])
def test_no_rank_blocks_signals(jobs, method):
    """Ranks are started by a thread that blocks signals, and block none themselves."""
    if method == "program":
        context = jobs.sh("cat /proc/self/status")
        context.wait(60)
        status = Path(context.stdouts[0]).read_text()
    else:
        context = jobs.start(own_status, 1, start_method=method)
        status = context.wait(60).return_values[0]
    assert int(blocked(status), 16) == 0


def own_status():
    """Return the kernel's status of this process."""
    return Path("/proc/self/status").read_text()
