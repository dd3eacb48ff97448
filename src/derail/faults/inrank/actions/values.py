"""Faults in the value that a rank's function returns: huge, impossible to send, slow to send, or never sent.

A rank that is a program returns no value, so these faults do not apply to it.
"""

from __future__ import annotations

import os
import signal

from .. import real_time
from ..rank_plan import ImpossibleError
from .delayed_crashes import crash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api import Effect, Runtime
    from ..rank_plan import Task


def make_huge(runtime: Runtime, task: Task) -> Effect:
    """Return a number of bytes."""
    size = int(task.text("size"))

    def change(value: object) -> object:
        huge = bytes(size)
        runtime.say("returned", task)
        return (value, huge) if task.flag("beside") else huge

    return _when_it_returns(runtime, change)


def make_unpicklable(runtime: Runtime, task: Task) -> Effect:
    """Return a value that cannot be sent."""
    kind = task.text("kind")

    def change(value: object) -> object:
        runtime.say("returned", task)
        if kind == "lambda":
            return lambda: value
        return _Awkward((int, ("no number",))) if kind == "unpickling" else _Awkward(None)

    return _when_it_returns(runtime, change)


def make_slow(runtime: Runtime, task: Task) -> Effect:
    """Wrap the value so that sending takes time; the receiver gets the value itself."""
    seconds = float(task.text("seconds"))

    import operator

    def take_time() -> None:
        runtime.say("sending", task)
        real_time.sleep(seconds)  # this delay is the fault
        runtime.say("sent", task)

    return _when_it_returns(runtime, lambda value: _Awkward((operator.getitem, ((value,), 0)), take_time))


def be_killed(runtime: Runtime, task: Task) -> Effect:
    """Return a number of bytes, and SIGKILL itself while they are sent."""
    import operator

    size = int(task.text("size"))

    def die() -> None:
        runtime.say("sending", task)
        os.kill(os.getpid(), signal.SIGKILL)

    return _when_it_returns(runtime, lambda value: (bytes(size), _Awkward((operator.getitem, ((value,), 0)), die)))


def crash_after(runtime: Runtime, task: Task) -> Effect:
    """Crash after the function has returned, before or after its value is sent."""
    import atexit

    deed = crash(task.text("how"))

    def end() -> None:
        if os.getpid() == runtime.pid:
            runtime.say("crash", task)
            deed()

    def change(value: object) -> object:
        if task.flag("unsent"):
            end()
        atexit.register(end)
        return value

    return _when_it_returns(runtime, change)


class _Awkward:
    """Object that controls how it is pickled."""

    def __init__(self, reduced: tuple[object, ...] | None, first: Callable[[], None] = lambda: None) -> None:
        self._reduced = reduced
        self._first = first

    def __reduce__(self) -> tuple[object, ...]:
        self._first()
        if self._reduced is None:
            raise RuntimeError("injected by derail")
        return self._reduced


def _when_it_returns(runtime: Runtime, change: Callable[[object], object]) -> Effect:
    if not runtime.part.function:
        raise ImpossibleError("it is a program, which returns no value")
    return lambda: runtime.on_return.append(change)


ACTIONS: dict[str, Callable[[Runtime, Task], Effect]] = {
    "value_huge": make_huge,
    "value_unpicklable": make_unpicklable,
    "value_slow": make_slow,
    "killed_while_sending": be_killed,
    "crash_after_return": crash_after,
}
