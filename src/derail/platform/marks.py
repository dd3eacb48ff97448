"""Marks of a job that its processes inherit: the environment that the kernel shows, and a resource limit.

A program has the rank's environment from its exec on. A forked rank shows that of the process it was forked from, until
it replaces it. Either is lost with an exec that clears the environment. The limit persists even then: only root can
raise it again. Neither depends on session, group, parent or descriptors.

The reasons are in docs/adr/two-marks.md.
"""

from __future__ import annotations

import os
import struct
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from derail.model.spec import JOB_ENV

if TYPE_CHECKING:
    from collections.abc import Mapping

_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_NO_FILE = 0xFFFFFFFF

_JOBS, _RANKS = 10**13, 10**5
_OUTERMOST, _INNER = 3 * _JOBS * _RANKS, 2 * _JOBS * _RANKS
"""Start of a limit that is a mark, in microseconds: some 90,000 years of real time without a system call."""

_shown: list[Any] = []
"""The environment that /proc shows of this process: its memory must never be freed."""


def show_environment() -> bool:
    """Make /proc/PID/environ show this process's current environment, here and in all its forks.

    Called in a forked child. Returns whether the kernel does it (prctl(2), PR_SET_MM_MAP, without a capability since
    Linux 4.18).
    """
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        library.sbrk.restype = ctypes.c_void_p
        with open("/proc/self/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        block = b"".join(name + b"=" + value + b"\0" for name, value in os.environb.items())
        memory = ctypes.create_string_buffer(block)
        start = ctypes.addressof(memory)
        # struct prctl_mm_map: all unchanged, by the numbers of proc_pid_stat(5), except the environment.
        code, data = [int(fields[number - 3]) for number in (26, 27)], [int(fields[n - 3]) for n in (45, 46, 47)]
        stack, arguments = int(fields[28 - 3]), [int(fields[number - 3]) for number in (48, 49)]
        numbers = (*code, *data, library.sbrk(0), stack, *arguments, start, start + len(block), 0, 0, _NO_FILE)
        layout = struct.pack("=12Q2I", *numbers)
        if library.prctl(_PR_SET_MM, _PR_SET_MM_MAP, layout, len(layout), 0) != 0:
            return False
    except (ImportError, OSError, AttributeError, ValueError, IndexError, struct.error):
        return False
    _shown.append(memory)
    return True


def set_limit(mark: str, rank: int, *, pid: int = 0) -> bool:
    """Set the limit of a process that identifies its descendants; return whether the process has it.

    It is the time that a real-time thread may run without a system call (RLIMIT_RTTIME, setrlimit(2)), which is
    unlimited otherwise: an unreachable number of microseconds, with the job and the rank in its digits. A limit that
    the user has set stays. In a job within a job, the hard limit remains that of the outermost.

    Args:
        mark: the value of the environment's mark; its last part is the job.
        rank: the local rank.
        pid: the process; 0 for this one. It must be an unreaped child.
    """
    try:
        import resource

        which = resource.RLIMIT_RTTIME
        soft, hard = resource.prlimit(pid, which)
        number = _number(mark.rpartition(":")[2]) * _RANKS + min(rank, _RANKS - 1)
        if number in (soft - _INNER, hard - _OUTERMOST):
            return True
        if hard == resource.RLIM_INFINITY:
            limits = (_OUTERMOST + number, _OUTERMOST + number)
        elif _OUTERMOST <= hard < _OUTERMOST + _JOBS * _RANKS:
            limits = (_INNER + number, hard)
        else:
            return False
        resource.prlimit(pid, which, limits)
    except (ImportError, AttributeError, OSError, ValueError):  # another platform; gone; another owner
        return False
    return True


def mark_rank(env: Mapping[str, str], rank: int, *, pid: int = 0) -> None:
    """Mark a rank, and so all its descendants, if its environment has a mark.

    Args:
        env: its environment.
        rank: the local rank.
        pid: as in ``set_limit``; 0 in a forked rank, which also has to show its environment.
    """
    mark = env.get(JOB_ENV)
    if mark:
        set_limit(mark, rank, pid=pid)
        if pid == 0:
            show_environment()


def marked_rank(pid: int, job_id: str) -> int | None:
    """Return the local rank of ``job_id`` that a process descends from, by its limit; None if that is no mark of the
    job."""
    try:
        with open(f"/proc/{pid}/limits", "rb", buffering=0) as file:
            _, label, rest = file.read().partition(b"Max realtime timeout")
    except OSError:
        return None
    number = _number(job_id)
    for word in reversed(rest.split()[:2] if label else ()):  # the hard limit is the outermost job's
        if word.isdigit() and int(word) // _RANKS % _JOBS == number and len(word) == len(str(_OUTERMOST)):
            return int(word) % _RANKS
    return None


@lru_cache(maxsize=8)
def _number(job_id: str) -> int:
    """Return the digits of a job by FNV-1a, because hashlib takes milliseconds to import."""
    number = 0xCBF29CE484222325
    for byte in job_id.encode():
        number = (number ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return number % _JOBS
