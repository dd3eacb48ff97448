"""Tests that leave descriptors, threads, handlers and processes."""

import os
import signal
import subprocess
import threading
import time

import pytest

from pytest_derail.jobs import leaks

leaks.SETTLE_SECONDS = 0.3  # nothing here is about to end
kept = []


def leave_descriptor():
    kept.append(os.open("/dev/null", os.O_RDONLY))


def leave_thread():
    threading.Thread(target=time.sleep, args=(30,), name="my-thread", daemon=True).start()


def leave_handler():
    signal.signal(signal.SIGUSR2, lambda *_: None)


def leave_process():
    kept.append(subprocess.Popen(["sleep", "613"]))


def leave_zombie():
    kept.append(subprocess.Popen(["true"]))
    os.waitid(os.P_PID, kept[-1].pid, os.WEXITED | os.WNOWAIT)


LEAVE = [leave_descriptor, leave_thread, leave_handler, leave_process, leave_zombie]


@pytest.mark.parametrize("leave", LEAVE)
def test_leaves(derail, leave):
    leave()


@pytest.mark.parametrize("leave", LEAVE)
def test_may_leave(derail, leave):
    derail.allow_left("descriptor", "thread", "handler", "process")
    leave()


def test_after():
    for child in kept:
        if isinstance(child, subprocess.Popen):
            child.kill()
            child.wait()
