"""Crashes that wait for their moment: an import, a signal, the end of an object, the end of the interpreter.

Near the end of the interpreter nothing can be imported any more: what a crash needs is there before.
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
    """What crashes in one of the ways that faults are told by a word, without a core file. It imports nothing."""
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
    """Crash when a module is imported."""
    module, how = task.text("module"), task.text("how")
    if module in sys.modules:
        raise ImpossibleError(f"it had imported {module} already")
    deed = _deed(runtime, task)

    class Finder:
        """Asked first of all where a module is."""

        def find_spec(self, name: str, *_: object) -> None:
            """Crash, if it is the one."""
            if name == module:
                sys.meta_path.remove(self)
                deed()
                if how == "exception":
                    raise ImportError("injected by derail", name=module)

    return lambda: sys.meta_path.insert(0, Finder())


def crash_at_exit(runtime: Runtime, task: Task) -> Effect:
    """Crash in a function that Python calls when it ends."""
    import atexit

    deed = _deed(runtime, task)
    return lambda: atexit.register(deed)


_kept: list[object] = []


def crash_in_del(runtime: Runtime, task: Task) -> Effect:
    """Crash while an object is destroyed."""
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
    """Crash in the handler of a signal."""
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
    """A crash that is to come: journalled right before."""
    how = task.text("how")
    deed = None if task.name == "crash_at_import" and how == "exception" else crash(how)

    def act() -> None:
        if os.getpid() != runtime.pid:
            return  # a child that the rank has forked
        runtime.say("crash", task)
        if deed is not None:
            deed()

    return act


def _number(name: str) -> int:
    """A signal by the name that plans have for it: SIGTERM, SIGRTMIN+3, SIGRTMAX-2."""
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
