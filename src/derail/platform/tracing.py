"""Stop of a process by ptrace: all its threads are stopped, no signal but SIGKILL reaches them, SIGCONT has no effect.

Only the thread that attached may detach, so each hold has a separate thread. When that ends, for whatever reason, the
kernel lets the process continue.

The reasons are in docs/adr/own-mechanisms.md.
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
"""Number of searches for new threads before the hold is given up."""

LOOK = 0.05
"""Seconds between checks whether a held thread was killed: the kernel keeps it until it is detached."""


class Hold:
    """A held process. ``start`` holds it; ``release`` lets it continue.

    Attributes:
        pid: the process.
        error: why it could not be held; empty while there is no error.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.error = ""
        self._held: set[int] = set()
        self._released = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"derail-hold-{pid}", daemon=True)

    def start(self) -> None:
        """Hold all threads of the process; return when each was ordered to stop, or the hold has failed."""
        start_thread(self._thread)
        self._tried.wait()

    def release(self) -> None:
        """Let the process continue; return when no thread is held any more."""
        self._released.set()
        if self._thread.ident is not None:  # else no thread could be started
            self._thread.join()

    def _run(self) -> None:
        try:
            self._hold_all()
        except OSError as error:
            self.error = f"ptrace of pid {self.pid}: {os.strerror(error.errno or 0)}"
            self._released.set()
        finally:
            self._tried.set()
        try:
            while not self._released.wait(LOOK) and self._is_stopped():
                pass
        finally:
            for tid in self._held:
                with suppress(OSError):  # it was killed
                    _ptrace(DETACH, tid)

    def _hold_all(self) -> None:
        """Hold all threads, repeatedly, because a thread that is not held yet may start others."""
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

    def _is_stopped(self) -> bool:
        """Consume the stops; return False for a process that is being killed: its exit belongs to its parent."""
        for tid in self._held:
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, tid, os.WSTOPPED | os.WNOHANG | WALL)
        return not any(state in "ZX" for state in states(self.pid).values())


def states(pid: int) -> dict[int, str]:
    """Return the state of each thread of a process, one letter: t is held, X is gone."""
    letters = {}
    for tid in _threads(pid):
        try:
            with open(f"/proc/{pid}/task/{tid}/stat", "rb") as stat:
                letters[tid] = stat.read().rpartition(b")")[2].split()[0].decode()
        except OSError:
            letters[tid] = "X"
    return letters


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
