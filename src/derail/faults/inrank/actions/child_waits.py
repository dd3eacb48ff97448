"""A launcher whose children are waited for by somebody else in its own process, before it does so itself."""

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
    """Have the ways to wait in ``os`` reap the child for nobody right before they wait for it themselves."""
    left = [int(task.text("count"))]

    def steal(kind: int, number: int, options: int) -> None:
        """Take the status of a child away, once the wait that is about to be made would get it."""
        try:
            if not options & os.WNOHANG:
                os_waitid(kind, number, os.WEXITED | os.WNOWAIT)
            found = os_waitid(kind, number, os.WEXITED | os.WNOHANG)
        except OSError:
            return  # whoever waits is told so as well
        if found is not None:
            left[0] -= 1
            try:
                runtime.write("stolen", fault=task.id, pid=found.si_pid, code=found.si_code, status=found.si_status)
            except OSError:
                pass  # then nothing proves it; the program must not hear of that

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
            if hasattr(keeps, name):  # a copy that it made when it was imported
                setattr(keeps, name, getattr(os, name))

    return put_in_place


def _whom(name: str, args: tuple[int, ...]) -> tuple[int, int, int]:
    """Whom a call waits for, in the words of ``waitid``."""
    if name == "waitid":
        return args[0], args[1], args[2]
    if name in ("wait", "wait3"):
        return os.P_ALL, 0, args[0] if args else 0
    pid, options = args
    if pid > 0:
        return os.P_PID, pid, options
    return (os.P_ALL, 0, options) if pid == -1 else (os.P_PGID, -pid or os.getpgrp(), options)


ACTIONS = {"stolen_wait": steal_wait}
