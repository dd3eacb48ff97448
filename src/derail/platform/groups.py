"""Signal a process, or the group that it leads: only if they are that child's own. The only place that calls killpg."""

from __future__ import annotations

import os
import signal


def signal_process(pid: int, pidfd: int | None, number: int) -> bool:
    """Send signal ``number`` to a process; False if it is gone.

    Args:
        pid: used only without a pidfd, and then it must be a child of ours that nobody has reaped.
        pidfd: its pidfd, which cannot mean a stranger.
        number: 0 only asks whether it is there.
    """
    try:
        if pidfd is not None and hasattr(signal, "pidfd_send_signal"):
            signal.pidfd_send_signal(pidfd, number)
        else:
            _refuse_broadcast(pid)
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_group(pgid: int, number: int) -> bool:
    """Send signal ``number`` to a process group; False if nobody is in it.

    The group must be led by a child of ours that nobody has reaped: as long as that is in the process table, alive or
    a zombie, no stranger can have the number. On Linux a zombie counts as a member, so True is no proof of life.

    Raises:
        ValueError: if the number means all processes, or the group of this process.
    """
    _refuse_broadcast(pgid)
    if pgid == os.getpgrp():
        raise ValueError(f"process group {pgid} is the one of this process; only a rank's own group may be signalled")
    try:
        os.killpg(pgid, number)  # noqa: TID251 - this is the one place: the caller vouches that the leader is its child
    except (ProcessLookupError, PermissionError):
        # macOS says EPERM of a group in which there are only zombies.
        return False
    return True


def _refuse_broadcast(number: int) -> None:
    if number <= 1:
        raise ValueError(f"{number} is no process of ours: kill(2) takes 0 and below for whole groups, and 1 is init")
