"""The place where a process hangs: the kernel's view, and a request to a Python process for its stack."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from derail.platform.proc_status import read_status, signal_mask
from derail.platform.processes import every_process

if TYPE_CHECKING:
    from collections.abc import Collection


def describe(pid: int) -> str:
    """Return state, kernel wait channel, system call and, where readable, kernel stack of ``pid``; never raises."""
    facts = [
        ("state", read_status(pid).get("State", "")),
        ("waits in", _read(pid, "wchan")),
        ("system call", _read(pid, "syscall").partition(" ")[0]),
        ("kernel stack", _read(pid, "stack")),
    ]
    lines = [f"{name}: {value}" for name, value in facts if value and value != "0"]
    return "\n".join(lines) or f"nothing is known of process {pid} here"


_READ = {"x86_64": "0", "aarch64": "63"}
"""The number of read(2), by machine."""


def reads_terminal(session: int) -> bool:
    """Return whether a process of a session waits for input from a terminal now; False where /proc hides that."""
    read = _READ.get(os.uname().machine)
    for pid in (process.pid for process in every_process() if process.sid == session):
        for thread in _threads(pid):
            number, *arguments = _read(pid, f"task/{thread}/syscall").split()[:2] or [""]
            if arguments and number == read and _is_terminal(pid, int(arguments[0], 16)):
                return True
    return False


def _is_terminal(pid: int, fd: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}").startswith(("/dev/pts/", "/dev/tty", "/dev/console"))
    except OSError:
        return False


def stack_signal() -> int:
    """Return the signal that requests a rank's Python stack (ranks register it with ``faulthandler``)."""
    return int(getattr(signal, "SIGRTMAX", 0)) - 1


def ask_for_python_stack(pid: int) -> bool:
    """Make ``pid`` write the Python stack of all its threads to its stderr; return False if it has no handler for that.

    Works also while it holds the GIL. A process without a handler would die of the signal, so the handler is checked
    first.
    """
    number = stack_signal()
    if number <= 0 or not (signal_mask(read_status(pid), "SigCgt") or 0) >> (number - 1) & 1:
        return False
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


def deaf_threads(pid: int) -> frozenset[str]:
    """Return the threads of ``pid`` that block the signal: those that always do, and one that is in its handler now,
    in which the kernel blocks it."""
    return frozenset(thread for thread in _threads(pid) if _has_signal(pid, thread, "SigBlk"))


def answers_still(pid: int, *, deaf: Collection[str] = ()) -> bool:
    """Return whether a requested stack of ``pid`` is pending or half written.

    That is: the signal is pending, or a thread is in the handler. Never for a stopped or gone process: it does nothing.

    Args:
        pid: the process.
        deaf: its threads that blocked the signal before the request.
    """
    if read_status(pid).get("State", "")[:1] in ("", "T", "t", "Z", "X"):
        return False
    if any(_has_signal(pid, thread, "SigPnd", "ShdPnd") for thread in _threads(pid)):
        return True
    return not deaf_threads(pid) <= frozenset(deaf)


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def _has_signal(pid: int, thread: str, *masks: str) -> bool:
    return bool((signal_mask(read_status(pid, thread=thread), *masks) or 0) >> (stack_signal() - 1) & 1)


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace").strip()
    except OSError:
        return ""
