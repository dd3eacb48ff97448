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


_WAITS = {
    "x86_64": {
        "waits in I/O": (0, 7, 19, 23, 42, 43, 45, 47, 232, 270, 271, 281, 288, 295, 299, 426, 441),
        "waits on a lock": (202, 449),
        "sleeps": (34, 35, 130, 230),
        "waits for a process": (61, 247),
        "writes": (1, 18, 20, 44, 46, 74, 75, 307),
    },
    "aarch64": {
        "waits in I/O": (21, 22, 63, 65, 69, 72, 73, 202, 203, 207, 212, 242, 243, 286, 426, 441),
        "waits on a lock": (98, 449),
        "sleeps": (101, 115, 133),
        "waits for a process": (95, 260),
        "writes": (64, 66, 68, 82, 83, 206, 211, 269),
    },
}
"""Numbers of system calls that block, by what a thread waits for in them, by machine (syscalls(2), futex_wait(2))."""


def awaited(described: str) -> str:
    """Return in words what the main thread of a process waits for, given its description; empty if that is unknown."""
    facts = dict(line.split(": ", 1) for line in described.splitlines() if ": " in line)
    state = facts.get("state", "")[:1]
    if state == "R":
        return "runs"
    if state == "D":
        place = facts.get("waits in", "")
        return f"in uninterruptible sleep{f' in {place}' if place else ''}"
    number = facts.get("system call", "")
    calls = _WAITS.get(os.uname().machine, {}) if state == "S" and number.isdigit() else {}
    return next((words for words, numbers in calls.items() if int(number) in numbers), "")


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
