"""Native frames of processes, and whether they sleep with the GIL: by py-spy, if it is installed (extra ``stacks``)."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.proc_status import read_status

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE = 16
"""Processes that are looked at at the same time."""
MOST_FRAMES = 8
"""Native frames that are kept, innermost first."""


@dataclass(frozen=True, slots=True)
class NativeStack:
    """What py-spy says of the main thread of a process.

    Attributes:
        frames: the native functions that Python code has called, innermost first.
        sleeps_with_gil: whether it holds the GIL and does not run.
    """

    frames: tuple[str, ...] = ()
    sleeps_with_gil: bool = False


def find_py_spy() -> str | None:
    """Return the path of py-spy: beside this Python, or on PATH; None if it is not installed."""
    beside = os.path.dirname(sys.executable)
    return shutil.which("py-spy", path=beside) or shutil.which("py-spy")


def look(pids: Iterable[int], *, native: bool, seconds: float) -> dict[int, NativeStack]:
    """Return what py-spy says of processes; nothing of those that it cannot read, or not in time.

    Args:
        pids: the processes. Those that are stopped, or in an uninterruptible sleep, are left alone.
        native: whether native frames are read. The process is paused for that, for some milliseconds.
        seconds: maximum seconds for all of them.
    """
    program = find_py_spy()
    if program is None:
        return {}
    end = SYSTEM_CLOCK.now() + seconds
    waiting, found = [pid for pid in pids if _state(pid) in ("R", "S")], {}
    while waiting and SYSTEM_CLOCK.now() < end:
        batch, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        started = {pid: _start(program, pid, native=native) for pid in batch}
        for pid, process in started.items():
            text = _finish(process, end)
            if native and _state(pid) in ("T", "t"):
                with suppress(OSError):
                    os.kill(pid, signal.SIGCONT)  # py-spy was ended while it had the process paused
            stack = _parse(pid, text)
            if stack is not None:
                found[pid] = stack
    return found


def _state(pid: int) -> str:
    return read_status(pid).get("State", "")[:1]


def _start(program: str, pid: int, *, native: bool) -> subprocess.Popen[bytes] | None:
    how = "--native" if native else "--nonblocking"
    try:
        return subprocess.Popen(
            [program, "dump", "--json", how, "--pid", str(pid)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None


def _finish(process: subprocess.Popen[bytes] | None, end: float) -> bytes:
    """Return what a process has written; nothing if it failed, or has not ended at a time."""
    if process is None:
        return b""
    with process:
        assert process.stdout is not None
        parts: list[bytes] = []
        while (rest := end - SYSTEM_CLOCK.now()) > 0 and select.select([process.stdout], [], [], rest)[0]:
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                return b"".join(parts) if process.wait() == 0 else b""
            parts.append(part)
        process.kill()
    return b""


def _parse(pid: int, text: bytes) -> NativeStack | None:
    """Return the main thread in an output of py-spy; None if it is not there."""
    try:
        main = next(thread for thread in json.loads(text) if thread["os_thread_id"] == pid)
        frames = []
        for frame in main["frames"]:
            if frame["module"] is None:
                break  # Python code
            if not frame["name"].startswith("0x"):
                frames.append(f"{frame['name']} ({frame['short_filename'] or '?'})"[:200])
        asleep = main["owns_gil"] is True and main["active"] is False
        return NativeStack(tuple(frames[:MOST_FRAMES]), asleep)
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        return None
