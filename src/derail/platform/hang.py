"""Where does a process hang? What the kernel tells, and how to ask a Python process for its stack."""

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
    """State, kernel wait channel, system call and, where it may be read, kernel stack of ``pid``; never raises."""
    facts = [
        ("state", read_status(pid).get("State", "")),
        ("waits in", _read(pid, "wchan")),
        ("system call", _read(pid, "syscall").partition(" ")[0]),
        ("kernel stack", _read(pid, "stack")),
    ]
    told = [f"{name}: {value}" for name, value in facts if value and value != "0"]
    return "\n".join(told) or f"nothing is known of process {pid} here"


_READ = {"x86_64": "0", "aarch64": "63"}
"""The number of read(2), by machine."""


def reads_terminal(session: int) -> bool:
    """Return whether a process of a session waits for input from a terminal just now; False where /proc hides that."""
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
    """The signal by which ranks are asked for their Python stack (they register it with ``faulthandler``)."""
    return int(getattr(signal, "SIGRTMAX", 0)) - 1


def ask_for_python_stack(pid: int) -> bool:
    """Have ``pid`` write the Python stack of all its threads to its stderr; False if it did not offer to.

    Works also while it holds the GIL. A process that has no handler for the signal would die of it, so that is looked
    up first.
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
    """The threads of ``pid`` that block the signal: those that always do, and one that is in its handler just now, in
    which the kernel blocks it."""
    return frozenset(thread for thread in _threads(pid) if _has_signal(pid, thread, "SigBlk"))


def answers_still(pid: int, *, deaf: Collection[str] = ()) -> bool:
    """Whether the stack that ``pid`` was asked for may still come, or be half written: the signal waits for it, or a
    thread is in the handler. Never so of one that is stopped or gone: it does nothing.

    Args:
        pid: the process.
        deaf: its threads that blocked the signal before it was asked.
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
