"""Holding a process by ptrace: all of its threads stand, no signal but SIGKILL reaches them, and SIGCONT does nothing.

Only the thread that attached may let go, so that each hold has a thread of its own. When that ends, however it ends,
the kernel lets the process go on.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from derail.platform.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000
PASSES = 50
"""How often threads are sought that have appeared meanwhile, before it is given up."""

LOOK = 0.05
"""Seconds after which it is looked again whether a thread that is held was killed: the kernel keeps it until then."""


class Hold:
    """A process that is held. Made and entered by ``start``; ``release`` lets it go on.

    Attributes:
        pid: the process.
        error: why it could not be held; empty as long as it can.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.error = ""
        self._held: set[int] = set()
        self._let_go = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"derail-hold-{pid}", daemon=True)

    def start(self) -> None:
        """Hold all threads of the process; returns when each was told to stand, or it is known why not."""
        start_thread(self._thread)
        self._tried.wait()

    def release(self) -> None:
        """Let the process go on; returns when nothing holds it any more."""
        self._let_go.set()
        if self._thread.ident is not None:  # else there was no thread to be had
            self._thread.join()

    def _run(self) -> None:
        try:
            self._hold_all()
        except OSError as error:
            self.error = f"ptrace of pid {self.pid}: {os.strerror(error.errno or 0)}"
            self._let_go.set()
        finally:
            self._tried.set()
        try:
            while not self._let_go.wait(LOOK) and self._stands():
                pass
        finally:
            for tid in self._held:
                with suppress(OSError):  # it was killed
                    _ptrace(DETACH, tid)

    def _hold_all(self) -> None:
        """Threads that are not held yet may start others, which are not held then."""
        for _ in range(PASSES):
            fresh = [tid for tid in _threads(self.pid) if tid not in self._held]
            if not fresh:
                return
            for tid in fresh:
                with suppress(ProcessLookupError):
                    _ptrace(SEIZE, tid)
                    self._held.add(tid)
                    _ptrace(INTERRUPT, tid)
        raise BlockingIOError("threads appear faster than they can be held")

    def _stands(self) -> bool:
        """Take note of the stops, and let go of a process that is being killed: its end is not for us to see."""
        for tid in self._held:
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, tid, os.WSTOPPED | os.WNOHANG | WALL)
        return not any(state in "ZX" for state in states(self.pid).values())


def states(pid: int) -> dict[int, str]:
    """The state of each thread of a process, one letter: t is held; X: it has gone meanwhile."""
    found = {}
    for tid in _threads(pid):
        try:
            with open(f"/proc/{pid}/task/{tid}/stat", "rb") as stat:
                found[tid] = stat.read().rpartition(b")")[2].split()[0].decode()
        except OSError:
            found[tid] = "X"
    return found


def _threads(pid: int) -> Iterator[int]:
    try:
        return map(int, os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return iter(())


def _ptrace(request: int, tid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes, libc.ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long
    if libc.ptrace(request, tid, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), "ptrace")
