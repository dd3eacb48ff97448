"""Native frames and the holder of the GIL, of real processes by py-spy; and a py-spy that fails, hangs or is absent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from derail.platform import native_stacks
from derail.platform.native_stacks import NativeStack, look
from derail.platform.proc_status import read_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import WaitUntil

LOCKED = """
import ctypes
library, mutex = ctypes.{kind}(None), ctypes.create_string_buffer(64)
library.pthread_mutex_lock(mutex)
print("locks", flush=True)
library.pthread_mutex_lock(mutex)
"""
"""Locks a mutex twice: the thread sleeps for ever, with the GIL (PyDLL) or without it (CDLL)."""
LONG_S = 60.0


@contextmanager
def running(source: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program that prints a line first; kill it at the end."""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def sleeps(pid: int) -> bool:
    """Return whether the main thread of a process sleeps."""
    return read_status(pid).get("State", "")[:1] == "S"


def fake(path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell script stand for py-spy; the pid is its last argument."""
    path.write_text(f"#!/bin/sh\nfor pid; do :; done\n{script}\n")
    path.chmod(0o700)
    monkeypatch.setattr(native_stacks, "find_py_spy", lambda: str(path))


needs_py_spy = pytest.mark.skipif(
    native_stacks.find_py_spy() is None or sys.platform != "linux" or sys.version_info >= (3, 14),
    reason="py-spy is not installed, needs root here, or does not know this Python",
)


@needs_py_spy
@pytest.mark.parametrize(("kind", "holds"), [("PyDLL", True), ("CDLL", False)])
def test_a_thread_that_sleeps_with_the_gil_is_known(wait_until: WaitUntil, kind: str, holds: bool) -> None:
    """And in which native function it is; without native frames as well."""
    with running(LOCKED.format(kind=kind)) as process:
        wait_until(lambda: sleeps(process.pid))
        quick = look([process.pid], native=False, seconds=LONG_S)
        whole = look([process.pid], native=True, seconds=LONG_S)
        assert process.poll() is None

    assert quick == {process.pid: NativeStack((), holds)}
    assert whole[process.pid].sleeps_with_gil is holds
    assert any("mutex_lock" in frame for frame in whole[process.pid].frames), whole


def test_nothing_is_known_without_py_spy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional."""
    monkeypatch.setattr(native_stacks, "find_py_spy", lambda: None)
    assert look([os.getpid()], native=True, seconds=LONG_S) == {}


def test_a_stopped_process_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    """So is one that has exited: py-spy is not started."""
    fake(tmp_path / "spy", f"touch {tmp_path}/started", monkeypatch)
    with running("import signal; print('here', flush=True); signal.pause()") as process:
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: read_status(process.pid).get("State", "")[:1] == "T")
        assert look([process.pid], native=True, seconds=LONG_S) == {}
    assert look([process.pid], native=True, seconds=LONG_S) == {}
    assert not (tmp_path / "started").exists()


def test_a_process_goes_on_after_a_py_spy_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    """It is ended at the deadline, and the process that it has paused continues."""
    fake(tmp_path / "spy", f"kill -STOP $pid; echo $$ > {tmp_path}/spy-pid; exec sleep 1000", monkeypatch)
    with running("import signal; print('here', flush=True); signal.pause()") as process:
        assert look([process.pid], native=True, seconds=5.0) == {}
        assert (tmp_path / "spy-pid").exists()
        wait_until(lambda: sleeps(process.pid))
    assert not Path(f"/proc/{(tmp_path / 'spy-pid').read_text().strip()}").exists()


@pytest.mark.parametrize("script", ["exit 1", "echo '['", "echo '[]'", "echo '[{\"os_thread_id\": '$pid'}]'", "echo 3"])
def test_other_output_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Also that of a py-spy that fails, because it may not read the process."""
    fake(tmp_path / "spy", script, monkeypatch)
    with running("import signal; print('here', flush=True); signal.pause()") as process:
        assert look([process.pid], native=True, seconds=LONG_S) == {}
