"""Crashes at a later moment: an import, a signal, the destruction of an object, the exit of the interpreter.

Near the exit of the interpreter imports fail, so each crash imports its modules beforehand.
"""

from __future__ import annotations

import os
import signal
import sys

from ..rank_plan import ImpossibleError
from .crashes import core_setting, touching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api import Effect, Runtime
    from ..rank_plan import Task


def crash(how: str) -> Callable[[], None]:
    """Return a function that crashes in a way given by a fault's ``how``, without a core file; it imports nothing."""
    if how == "exception":
        return _raise
    set_core, touch = core_setting(core=False), touching("read")

    def end() -> None:
        set_core()
        if how == "segfault":
            touch()
        os.abort()

    return end


def crash_at_import(runtime: Runtime, task: Task) -> Effect:
    """Crash at the import of a module."""
    module, how = task.text("module"), task.text("how")
    if module in sys.modules:
        raise ImpossibleError(f"it had already imported {module}")
    deed = _deed(runtime, task)

    class Finder:
        """First finder on ``sys.meta_path``."""

        def find_spec(self, name: str, *_: object) -> None:
            """Crash if it is asked for the module."""
            if name == module:
                sys.meta_path.remove(self)
                deed()
                if how == "exception":
                    raise ImportError("injected by derail", name=module)

    return lambda: sys.meta_path.insert(0, Finder())


def crash_at_exit(runtime: Runtime, task: Task) -> Effect:
    """Crash in a function that Python calls at exit."""
    import atexit

    deed = _deed(runtime, task)
    return lambda: atexit.register(deed)


_kept: list[object] = []


def crash_in_del(runtime: Runtime, task: Task) -> Effect:
    """Crash during the destruction of an object."""
    deed = _deed(runtime, task)

    class Doomed:
        def __del__(self) -> None:
            deed()

    def destroy() -> None:
        doomed: object = Doomed()
        if task.text("at") == "end":
            _kept.append(doomed)
        del doomed

    return destroy


def crash_in_handler(runtime: Runtime, task: Task) -> Effect:
    """Crash in a signal handler."""
    number, deed = _number(task.text("signal")), _deed(runtime, task)

    def arm() -> None:
        before = signal.getsignal(number)

        def handle(_: int, __: object) -> None:
            signal.signal(number, signal.SIG_DFL if before is None else before)
            deed()

        signal.signal(number, handle)
        if not task.flag("wait"):
            os.kill(os.getpid(), number)

    return arm


def _deed(runtime: Runtime, task: Task) -> Callable[[], None]:
    """Return the later crash, which is journalled right before."""
    how = task.text("how")
    deed = None if task.name == "crash_at_import" and how == "exception" else crash(how)

    def act() -> None:
        if os.getpid() != runtime.pid:
            return  # a forked child of the rank
        runtime.say("crash", task)
        if deed is not None:
            deed()

    return act


def _number(name: str) -> int:
    """Return the number of a signal named as in plans: SIGTERM, SIGRTMIN+3, SIGRTMAX-2."""
    for mark in "+-":
        base, found, offset = name.partition(mark)
        if found:
            return int(getattr(signal, base)) + int(mark + offset)
    return int(getattr(signal, name))


def _raise() -> None:
    raise RuntimeError("injected by derail")


ACTIONS: dict[str, Callable[[Runtime, Task], Effect]] = {
    "crash_at_import": crash_at_import,
    "crash_at_exit": crash_at_exit,
    "crash_in_del": crash_in_del,
    "crash_in_handler": crash_in_handler,
}
