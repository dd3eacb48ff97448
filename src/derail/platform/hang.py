"""Where does a process hang? What the kernel tells, and how to ask a Python process for its stack."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def describe(pid: int) -> str:
    """State, kernel wait channel, system call and, where it may be read, kernel stack of ``pid``; never raises."""
    facts = [
        ("state", _status_field(pid, "State")),
        ("waits in", _read(pid, "wchan")),
        ("system call", _read(pid, "syscall").partition(" ")[0]),
        ("kernel stack", _read(pid, "stack")),
    ]
    told = [f"{name}: {value}" for name, value in facts if value and value != "0"]
    return "\n".join(told) or f"nothing is known of process {pid} here"


def stack_signal() -> int:
    """The signal by which ranks are asked for their Python stack (they register it with ``faulthandler``)."""
    return int(getattr(signal, "SIGRTMAX", 0)) - 1


def ask_for_python_stack(pid: int) -> bool:
    """Have ``pid`` write the Python stack of all its threads to its stderr; False if it did not offer to.

    Works also while it holds the GIL. A process that has no handler for the signal would die of it, so that is looked
    up first.
    """
    number = stack_signal()
    caught = _status_field(pid, "SigCgt")
    if number <= 0 or not caught or not int(caught, 16) >> (number - 1) & 1:
        return False
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


def _status_field(pid: int, name: str) -> str:
    for line in _read(pid, "status").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace").strip()
    except OSError:
        return ""
