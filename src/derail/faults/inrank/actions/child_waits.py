"""Launcher with code in its own process that reaps children before the launcher waits for them."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api import Effect, Runtime
    from ..rank_plan import Task

WAITS = ("waitpid", "waitid", "wait", "wait3", "wait4")


def steal_wait(runtime: Runtime, task: Task) -> Effect:
    """Make the wait functions of ``os`` reap the child and drop its status right before they wait themselves."""
    left = [int(task.text("count"))]

    def steal(kind: int, number: int, options: int) -> None:
        """Drop the status of a child at the moment when the coming wait would receive it."""
        try:
            if not options & os.WNOHANG:
                os_waitid(kind, number, os.WEXITED | os.WNOWAIT)
            reaped = os_waitid(kind, number, os.WEXITED | os.WNOHANG)
        except OSError:
            return  # the real wait raises the same error
        if reaped is not None:
            left[0] -= 1
            try:
                runtime.write("stolen", fault=task.id, pid=reaped.si_pid, code=reaped.si_code, status=reaped.si_status)
            except OSError:
                pass  # then there is no evidence; the program must not see the error

    os_waitid = os.waitid

    def stealing(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def wait(*args: int) -> object:
            if left[0] > 0 and os.getpid() == runtime.pid:
                steal(*_whom(name, args))
            return real(*args)

        wait.__name__ = wait.__qualname__ = name
        return wait

    def put_in_place() -> None:
        for name in WAITS:
            setattr(os, name, stealing(name, getattr(os, name)))
        keeps = getattr(sys.modules.get("subprocess"), "_del_safe", None)
        for name in WAITS:
            if hasattr(keeps, name):  # a copy from the import of subprocess
                setattr(keeps, name, getattr(os, name))

    return put_in_place


def _whom(name: str, args: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the children that a call waits for, as the arguments of ``waitid``."""
    if name == "waitid":
        return args[0], args[1], args[2]
    if name in ("wait", "wait3"):
        return os.P_ALL, 0, args[0] if args else 0
    pid, options = args
    if pid > 0:
        return os.P_PID, pid, options
    return (os.P_ALL, 0, options) if pid == -1 else (os.P_PGID, -pid or os.getpgrp(), options)


ACTIONS = {"stolen_wait": steal_wait}
