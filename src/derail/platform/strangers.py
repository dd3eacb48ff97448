"""Processes that are not children of this one: their exit statuses, their descendants, and the adoption of orphans.

A parent that reaps its child takes the status with it. Until then /proc shows it to processes that may trace the child;
from then on the kernel returns it to holders of a pidfd (Linux 6.15). Otherwise the status is lost, and never invented.
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
"""Number of queries, and seconds between them, for the status of a process that its parent is just reaping."""
REAPED_WITHIN = 1.0
"""Seconds until the parent of a process with a hidden status must have reaped it. The caller is blocked until then."""


def become_subreaper() -> None:
    """Adopt, from now on, descendants with a parent that has ended, as children of this process (prctl(2)).

    Raises:
        OSError: if the platform does not support that.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this platform has no subreapers: leftovers cannot be counted")


def status_of_ended(pid: int, pidfd: int) -> ExitStatus:
    """Return the status of a process with a readable pidfd, child or not, reaped or not; lost if there is no source."""
    pause = threading.Event()
    deadline, looks = SYSTEM_CLOCK.now() + REAPED_WITHIN, 0
    while looks < LOOKS or (hides(pid) and SYSTEM_CLOCK.now() < deadline):
        status = _as_child(pidfd) or status_before_reaping(pid, pidfd) or exits.ask_kernel(pidfd)
        if status is not None:
            return status
        looks += 1
        pause.wait(PAUSE)
    if hides(pid):
        return ExitStatus(lost=f"process {pid} may not be inspected, and its parent has not reaped it yet")
    return ExitStatus(lost=f"process {pid} was reaped by its parent, and this kernel does not keep the status")


def descendants(root: int) -> dict[int, ProcessInfo]:
    """Return all processes below ``root``, including zombies, by pid; parents before their children."""
    children: dict[int, list[ProcessInfo]] = {}
    for process in every_process():
        children.setdefault(process.ppid, []).append(process)
    below: dict[int, ProcessInfo] = {}
    parents = [root]
    while parents:
        for process in children.pop(parents.pop(0), ()):
            below[process.pid] = process
            parents.append(process.pid)
    return below


def _as_child(pidfd: int) -> ExitStatus | None:
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if result is None else ExitStatus.from_waitid(result)


def status_before_reaping(pid: int, pidfd: int) -> ExitStatus | None:
    """Return the status of a process that its parent has not reaped yet; None if it has, or if /proc hides it."""
    status = status_of_zombie(pid)
    try:
        # It still exists after the look: so the status is its own, and not that of a later process with its pid.
        signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        return None
    return status
