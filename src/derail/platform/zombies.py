"""Exit statuses of unreaped processes in /proc.

/proc shows the status to processes that may trace the zombie (proc(5)), and 0, as if it had succeeded, to all others.
So it shows 0 for zombies of other users. It also does for those of this user that may not be dumped, by prctl(2) or
because their program file is not readable: Linux keeps that flag beyond the exit.
"""

from __future__ import annotations

import os

from derail.model.exit import ExitStatus
from derail.platform.processes import is_proc_foreign

_EXIT_CODE = 49
"""Index of exit_code in /proc/PID/stat (proc(5)), counted from the state."""


def status_of_zombie(pid: int) -> ExitStatus | None:
    """Return the status of an unreaped process; None if it is no zombie, or hides it."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] != b"Z" or hides(pid) or is_proc_foreign():
            return None
        return from_wait_status(int(fields[_EXIT_CODE]))
    except (OSError, ValueError, IndexError):
        return None


def hides(pid: int) -> bool:
    """Return whether /proc shows 0 instead of the exit status: this link needs the same permission."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except PermissionError:
        return True
    except OSError:
        return False  # a zombie has no program any more
    return False


def from_wait_status(wait_status: int) -> ExitStatus | None:
    """Convert a wait(2) status; None if it is not that of an exit."""
    if os.WIFEXITED(wait_status):
        return ExitStatus(code=os.WEXITSTATUS(wait_status))
    if os.WIFSIGNALED(wait_status):
        return ExitStatus(signal=os.WTERMSIG(wait_status), core_dumped=os.WCOREDUMP(wait_status))
    return None
