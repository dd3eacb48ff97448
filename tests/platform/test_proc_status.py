"""The kernel's view of a process from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from derail.platform.proc_status import command_line, read_process_state, read_status, signal_mask

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc here")

SETS_SIGNALS = """
import signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child():
    """Start a process that has reported that its signals are set."""
    with subprocess.Popen(
        [sys.executable, "-c", SETS_SIGNALS, "an argument"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def test_signals_are_told_apart_by_what_the_process_does_with_them(child):
    """Blocked, ignored, caught; and pending after a blocked signal was sent."""
    os.kill(child.pid, signal.SIGTERM)

    state = read_process_state(child.pid)

    assert signal.SIGTERM in state.blocked
    assert signal.SIGTERM in state.pending
    assert signal.SIGHUP in state.ignored
    assert signal.SIGUSR1 in state.caught
    assert not {signal.SIGUSR1, signal.SIGHUP} & state.blocked
    assert not state.ended


def test_the_command_line_is_split_into_its_words(child):
    """Words keep their spaces."""
    assert command_line(child.pid)[-1] == "an argument"


def test_a_zombie_has_ended_and_shows_no_command_line(child):
    """Its status can be read until it is reaped."""
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert read_process_state(child.pid).ended
    assert command_line(child.pid) == ()


def test_a_process_that_is_gone_has_no_status(child):
    """Neither function raises."""
    child.stdin.close()
    child.wait()

    assert read_process_state(child.pid) is None
    assert read_status(child.pid) == {}
    assert command_line(child.pid) == ()


def test_a_thread_has_a_status_of_its_own():
    """A thread may block signals that the others take."""
    ready, done = threading.Event(), threading.Event()

    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        ready.set()
        done.wait()

    thread = threading.Thread(target=block)
    thread.start()
    try:
        ready.wait()
        bit = 1 << (signal.SIGUSR2 - 1)
        assert signal_mask(read_status("self", thread=thread.native_id), "SigBlk") & bit
        assert not signal_mask(read_status("self"), "SigBlk") & bit
    finally:
        done.set()
        thread.join()


def test_masks_are_united_and_absent_ones_are_none():
    """None distinguishes a status without masks from one with empty masks."""
    fields = {"SigPnd": "0000000000000001", "ShdPnd": "0000000000000100"}

    assert signal_mask(fields, "SigPnd", "ShdPnd") == 0x101
    assert signal_mask(fields, "SigCgt") is None
    assert signal_mask({"SigBlk": "0000000000000000"}, "SigBlk") == 0
