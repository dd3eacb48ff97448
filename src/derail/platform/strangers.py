"""Processes that are not children of this one: how they ended, what they started, and who takes in orphans.

A parent that reaps its child takes the status with it. Until then /proc shows it to whoever may trace the process; from
then on the kernel tells whoever holds a pidfd (Linux 6.15). Where neither does, the status is lost, and never made up.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.model.exit import ExitStatus
from derail.platform import exits
from derail.platform.processes import every_process
from derail.platform.zombies import hides, status_of_zombie

if TYPE_CHECKING:
    from derail.platform.processes import ProcessInfo

_PR_SET_CHILD_SUBREAPER = 36

LOOKS, PAUSE = 40, 0.0005
"""How often, and with how many seconds between, it is asked how a process ended that its parent is just reaping."""
REAPED_WITHIN = 1.0
"""Seconds until the parent of a process that hides how it ended must have reaped it. Nobody else is heard meanwhile."""


def become_subreaper() -> None:
    """From now on, descendants whose parent has left become children of this process (prctl(2)).

    Raises:
        OSError: if the platform has no such thing.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this platform has no subreapers: what is left behind cannot be counted")


def status_of_ended(pid: int, pidfd: int) -> ExitStatus:
    """How a process ended whose pidfd has become readable, a child or not, reaped or not; lost if nobody tells."""
    pause = threading.Event()
    deadline, looks = SYSTEM_CLOCK.now() + REAPED_WITHIN, 0
    while looks < LOOKS or (hides(pid) and SYSTEM_CLOCK.now() < deadline):
        status = _as_child(pidfd) or status_before_reaping(pid, pidfd) or exits.ask_kernel(pidfd)
        if status is not None:
            return status
        looks += 1
        pause.wait(PAUSE)
    if hides(pid):
        return ExitStatus(lost=f"process {pid} may not be looked into, and its parent has not reaped it yet")
    return ExitStatus(lost=f"process {pid} was reaped by its parent, and this kernel does not keep the status")


def descendants(root: int) -> dict[int, ProcessInfo]:
    """All processes below ``root``, zombies too, by pid; parents before their children."""
    children: dict[int, list[ProcessInfo]] = {}
    for process in every_process():
        children.setdefault(process.ppid, []).append(process)
    found: dict[int, ProcessInfo] = {}
    parents = [root]
    while parents:
        for process in children.pop(parents.pop(0), ()):
            found[process.pid] = process
            parents.append(process.pid)
    return found


def _as_child(pidfd: int) -> ExitStatus | None:
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if result is None else ExitStatus.from_waitid(result)


def status_before_reaping(pid: int, pidfd: int) -> ExitStatus | None:
    """How a process ended that its parent has not reaped yet; None if it has, or if /proc hides it."""
    status = status_of_zombie(pid)
    try:
        # Still there after the look: then it was this process that was looked at, and no later one of that number.
        signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        return None
    return status
