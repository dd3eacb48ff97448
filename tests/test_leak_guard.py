"""The guard that stands around every test: it names each kind of thing that can be left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import leak_guard


def leaked(before: leak_guard.Held) -> list[str]:
    """What is there now, without waiting for it to go."""
    return leak_guard.leaks(before, settle=0)


def test_nothing_is_named_when_nothing_was_left():
    """A test that holds nothing more than before leaves an empty list."""
    before = leak_guard.hold()

    assert leaked(before) == []


def test_an_open_descriptor_is_named_with_its_target():
    """A descriptor that is still open is named, and so is what it points to."""
    before = leak_guard.hold()
    with open("/dev/null", "rb") as file:
        assert leaked(before) == [f"descriptor {file.fileno()}: was absent, is /dev/null"]


def test_a_running_thread_is_named():
    """A thread that still runs is named."""
    release = threading.Event()
    before = leak_guard.hold()
    thread = threading.Thread(target=release.wait, name="forgotten")
    thread.start()
    try:
        assert leaked(before) == ["thread 'forgotten'"]
    finally:
        release.set()
        thread.join()


def test_a_running_child_is_named_with_its_command():
    """A child that still runs is named."""
    before = leak_guard.hold()
    with subprocess.Popen(["sleep", "600"]) as child:
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes():  # in the middle of its exec it has none
            pass
        found = leaked(before)
        child.kill()

    assert found in ([f"process {child.pid} (state {state}, parent {os.getpid()}): sleep 600"] for state in "RSD")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_zombie_is_named():
    """A child that ended and was not reaped is left behind, too."""
    before = leak_guard.hold()
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        found = leaked(before)

    assert found == [f"process {child.pid} (state Z, parent {os.getpid()}): true"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_an_orphan_in_its_own_session_is_named_and_ended(pid_gone):
    """A process that moved to another parent and another session is still found, by its mark, and ended."""
    before = leak_guard.hold()
    starter = "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=-3, start_new_session=True).pid)"
    pid = int(subprocess.run([sys.executable, "-c", starter], stdout=subprocess.PIPE, check=True).stdout)
    while not Path(f"/proc/{pid}/cmdline").read_bytes():  # in the middle of its exec it has no mark either
        pass
    found = leaked(before)
    leak_guard.end_leaked_processes(before)

    assert [line.partition(" (")[0] for line in found] == [f"process {pid}"]
    assert pid_gone(pid)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_process_that_forks_all_the_time_is_ended():
    """A leaked process that flees from one pid to the next does not get away."""
    before = leak_guard.hold()
    fleeing = """
import os, time
print("running", flush=True)
for _ in range(900):  # it ends by itself, whatever the guard is worth, but not before the guard has looked
    if os.fork():
        os._exit(0)
    time.sleep(0.2)
"""
    with subprocess.Popen([sys.executable, "-c", fleeing], stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        leak_guard.end_leaked_processes(before)
        child.wait()

    assert leak_guard.leaks(before, settle=60) == []


def test_a_changed_signal_handler_is_named():
    """A handler that was not put back is named."""
    before = leak_guard.hold()
    old = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        found = leaked(before)
    finally:
        signal.signal(signal.SIGUSR1, old)

    assert found == [
        f"signal handler {int(signal.SIGUSR1)}: was {signal.SIG_DFL!r}, is {signal.SIG_IGN!r}",
    ]


def test_a_blocked_signal_is_named():
    """A signal mask that was not put back is named."""
    before = leak_guard.hold()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        found = leaked(before)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])

    assert found == [f"signal mask: was [], is [{int(signal.SIGUSR1)}]"]


def test_a_wakeup_descriptor_is_named():
    """A wakeup descriptor that was not taken back is named."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = leak_guard.hold()
    signal.set_wakeup_fd(writer)
    try:
        found = leaked(before)
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)

    assert found == [f"signal wakeup descriptor: was -1, is {writer}"]


def test_a_changed_environment_is_named(monkeypatch):
    """A variable that was set, changed or deleted is named."""
    monkeypatch.setenv("GUARD_CHANGED", "1")
    monkeypatch.setenv("GUARD_DELETED", "1")
    before = leak_guard.hold()
    monkeypatch.setenv("GUARD_CHANGED", "2")
    monkeypatch.delenv("GUARD_DELETED")
    monkeypatch.setenv("GUARD_SET", "1")

    assert sorted(leaked(before)) == [
        "environment variable GUARD_CHANGED: was 1, is 2",
        "environment variable GUARD_DELETED: was 1, is absent",
        "environment variable GUARD_SET: was absent, is 1",
    ]


def test_another_working_directory_is_named(monkeypatch, tmp_path):
    """A working directory that was not changed back is named."""
    before = leak_guard.hold()
    monkeypatch.chdir(tmp_path)

    assert leaked(before) == [f"working directory: was {before.directory}, is {tmp_path}"]


def test_a_temporary_file_is_named():
    """A file that stays in the temporary directory is named."""
    before = leak_guard.hold()
    with tempfile.NamedTemporaryFile() as file:
        assert leaked(before) == [
            f"descriptor {file.fileno()}: was absent, is {file.name}",
            f"temporary file {os.path.basename(file.name)}",
        ]


def test_an_ending_that_is_under_way_is_waited_for():
    """A thread that is about to end is not called left behind."""
    before = leak_guard.hold()
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    timer = threading.Timer(0.2, release.set)
    timer.start()
    found = leak_guard.leaks(before, settle=60)
    timer.join()
    thread.join()

    assert found == []
