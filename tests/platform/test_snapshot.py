"""All leaks of a piece of code in this process are named."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from pathlib import Path

import pytest

from derail.model.outcome import Leftover
from derail.platform import snapshot
from derail.platform.snapshot import compare, take_snapshot


@pytest.fixture(autouse=True)
def shared_memory(tmp_path_factory, monkeypatch):
    """Replace /dev/shm by a directory that no other process on this machine uses."""
    directory = tmp_path_factory.mktemp("shm")
    monkeypatch.setattr(snapshot, "SHARED_MEMORY", str(directory))
    return directory


def test_nothing_left_is_nothing_named(tmp_path):
    """Two looks at a quiet process agree."""
    before = take_snapshot(directories=[tmp_path])
    with open(os.devnull):
        pass

    assert compare(before, take_snapshot(directories=[tmp_path])) == ()


def test_a_child_is_named_alive_and_as_a_zombie(start):
    """A zombie is a leak as well: it was never reaped."""
    before = take_snapshot()
    child = start("sh", "-c", "read line")
    leaks = compare(before, take_snapshot())
    assert Leftover("process", "sh -c read line", child.pid) in leaks

    child.tell()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert Leftover("process", "[sh] (zombie)", child.pid) in compare(before, take_snapshot())


def test_a_grandchild_is_named(start):
    """Descendants count, not only children."""
    before = take_snapshot()
    child = start("sh", "-c", "sleep 600 & echo $!; wait")
    grandchild = int(child.read_line())
    found = {leak.pid for leak in compare(before, take_snapshot()) if leak.kind == "process"}
    os.killpg(child.pid, signal.SIGKILL)  # noqa: TID251 - the group of the child of this test

    assert {child.pid, grandchild} <= found


def test_a_descriptor_is_named_with_what_it_is_open_on(tmp_path):
    """A leaked file is named by its path."""
    before = take_snapshot()
    with open(tmp_path / "log", "w") as file:
        leaks = compare(before, take_snapshot())

        assert leaks == (Leftover("descriptor", f"{file.fileno()} -> {tmp_path / 'log'}"),)


def test_a_descriptor_that_was_turned_to_something_else_is_named(tmp_path):
    """dup2 over a stream without undoing it is a leak."""
    with open(os.devnull) as kept, open(tmp_path / "log", "w") as log:
        before = take_snapshot()
        os.dup2(log.fileno(), kept.fileno())

        assert [leak.kind for leak in compare(before, take_snapshot())] == ["descriptor"]


def test_a_thread_is_named():
    """A running thread is named."""
    before = take_snapshot()
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="forgotten")
    thread.start()
    leaks = compare(before, take_snapshot())
    done.set()
    thread.join()

    assert leaks == (Leftover("thread", "forgotten"),)


def test_a_signal_handler_is_named_with_both_values():
    """A handler that was not restored is named with its old and new value."""

    def mine(*_):
        pass

    before = take_snapshot()
    old = signal.signal(signal.SIGUSR1, mine)
    leaks = compare(before, take_snapshot())
    signal.signal(signal.SIGUSR1, old)

    assert [leak.kind for leak in leaks] == ["handler"]
    assert leaks[0].what.startswith("SIGUSR1: was SIG_DFL, is ")
    assert leaks[0].what.endswith("mine")


def test_a_file_in_a_given_directory_is_named(tmp_path):
    """Temporary files are searched in the given directories."""
    before = take_snapshot(directories=[tmp_path])
    (tmp_path / "left").touch()

    assert compare(before, take_snapshot(directories=[tmp_path])) == (Leftover("file", str(tmp_path / "left")),)


def test_a_shared_memory_segment_is_named(monkeypatch):
    """An entry that a killed rank leaves in /dev/shm stays until it is removed."""
    monkeypatch.undo()
    segment = Path("/dev/shm") / f"derail-test-{uuid.uuid4().hex}"
    if not segment.parent.is_dir():
        pytest.skip("no /dev/shm here")
    before = take_snapshot()
    segment.touch()
    leaks = compare(before, take_snapshot())
    segment.unlink()

    assert Leftover("shm", str(segment)) in leaks
