"""Signals to a process, or to the group that it leads, only if they are that child's own. The only call of killpg."""

from __future__ import annotations

import os
import signal


def signal_process(pid: int, pidfd: int | None, number: int) -> bool:
    """Send signal ``number`` to a process; return False if it is gone.

    Args:
        pid: used only without a pidfd, and then it must be an unreaped child of ours.
        pidfd: its pidfd, which cannot refer to another process.
        number: 0 only checks whether it exists.
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
    """Send signal ``number`` to a process group; return False if it has no member.

    The group must be led by an unreaped child of ours: while that is in the process table, alive or a zombie, the id
    cannot be reused. On Linux a zombie counts as a member, so True is no proof of life.

    Raises:
        ValueError: if the number means all processes, or the group of this process.
    """
    _refuse_broadcast(pgid)
    if pgid == os.getpgrp():
        raise ValueError(f"process group {pgid} is the one of this process; only a rank's own group may be signalled")
    try:
        os.killpg(pgid, number)  # noqa: TID251 - the only call: the caller guarantees that the leader is its child
    except (ProcessLookupError, PermissionError):
        # macOS reports EPERM for a group of zombies only.
        return False
    return True


def _refuse_broadcast(number: int) -> None:
    if number <= 1:
        raise ValueError(f"{number} is no process of ours: kill(2) takes 0 and below for whole groups, and 1 is init")
