"""What /proc says of a process that has ended and that nobody has reaped yet.

It tells the status to whoever may trace the process (proc(5)), and to everybody else 0, as if all had gone well. So it
is with processes of other users, and, since Linux keeps that in mind beyond the end of a process, with those of the own
user that may not be dumped: by prctl(2), or because their program file may not be read.
"""

from __future__ import annotations

import os

from derail.model.exit import ExitStatus
from derail.platform.processes import is_proc_foreign

_EXIT_CODE = 49
"""The place of exit_code in /proc/PID/stat (proc(5)), counted from the state."""


def status_of_zombie(pid: int) -> ExitStatus | None:
    """How a process ended that nobody has reaped yet; None if it is no zombie, or hides it."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] != b"Z" or hides(pid) or is_proc_foreign():
            return None
        return from_wait_status(int(fields[_EXIT_CODE]))
    except (OSError, ValueError, IndexError):
        return None


def hides(pid: int) -> bool:
    """Whether 0 is told instead of what a process has ended with: the kernel asks for the same permission here."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except PermissionError:
        return True
    except OSError:
        return False  # a zombie has no program any more
    return False


def from_wait_status(wait_status: int) -> ExitStatus | None:
    """Read what wait(2) calls a status; None if it tells of no end."""
    if os.WIFEXITED(wait_status):
        return ExitStatus(code=os.WEXITSTATUS(wait_status))
    if os.WIFSIGNALED(wait_status):
        return ExitStatus(signal=os.WTERMSIG(wait_status), core_dumped=os.WCOREDUMP(wait_status))
    return None
