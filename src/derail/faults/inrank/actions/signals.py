"""Signal handling of a rank, changed from inside: masks, dispositions, and handlers that misbehave."""

from __future__ import annotations

import os
import signal

from .. import real_time
from ..rank_plan import ImpossibleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ..api import Effect, Runtime
    from ..rank_plan import Task

    Deed = Callable[[int, FrameType | None], None]


def block(_: Runtime, task: Task) -> Effect:
    """Block signals in the main thread and in all threads and processes that it starts from now on."""
    numbers = _numbers(task)
    return lambda: _done(signal.pthread_sigmask(signal.SIG_BLOCK, numbers))


def ignore(_: Runtime, task: Task) -> Effect:
    """Ignore signals."""
    numbers = _numbers(task)

    def deafen() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return deafen


def slow(runtime: Runtime, task: Task) -> Effect:
    """Install a handler that sleeps, and then takes the previous action."""
    seconds = float(task.text("seconds"))
    as_before = _usual(task)

    def sleep(number: int, frame: FrameType | None) -> None:
        end = real_time.monotonic() + seconds
        while real_time.monotonic() < end:
            real_time.sleep(max(0.0, end - real_time.monotonic()))  # this delay is the fault
        _say(runtime, "handled", task)
        as_before(number, frame)

    return _handle(runtime, task, sleep)


def raising(runtime: Runtime, task: Task) -> Effect:
    """Install a handler that raises at whatever point the main thread has reached."""
    from .process import throw

    error = throw(runtime, task)

    def raise_it(_: int, __: FrameType | None) -> None:
        if isinstance(error, BaseException):
            raise error

    return _handle(runtime, task, raise_it)


def exit_zero(runtime: Runtime, task: Task) -> Effect:
    """Install a handler that exits with code 0."""

    def leave(_: int, __: FrameType | None) -> None:
        if task.text("how") == "_exit":
            os._exit(0)
        raise SystemExit(0)

    return _handle(runtime, task, leave)


def fork(runtime: Runtime, task: Task) -> Effect:
    """Install a handler that forks, and then takes the previous action; the child lives for some seconds."""
    seconds = float(task.text("lives"))
    as_before = _usual(task)

    def fork_it(number: int, frame: FrameType | None) -> None:
        child = os.fork()
        if not child:
            signal.signal(number, signal.SIG_IGN)
            real_time.sleep(seconds)  # this surviving child is the fault
            os._exit(0)
        try:
            runtime.write("helper", fault=task.id, pid=child)
        except OSError:
            pass  # then there is no evidence
        as_before(number, frame)

    return _handle(runtime, task, fork_it)


def reraise(runtime: Runtime, task: Task) -> Effect:
    """Install a handler that restores the default action and sends the signal again."""
    return _handle(runtime, task, lambda number, _: _die_of(number))


def _usual(task: Task) -> Deed:
    """Return the present action of the signal: its Python handler, or none."""
    before = signal.getsignal(_number(task))
    if before is None:
        raise ImpossibleError(f"{task.text('signal')} has a handler that was not set from Python")

    def act(number: int, frame: FrameType | None) -> None:
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            _die_of(number)

    return act


def _handle(runtime: Runtime, task: Task, deed: Deed) -> Effect:
    """Return an effect that installs a handler, which runs once and journals its start."""
    number = _number(task)
    handling: list[int] = []

    def handler(got: int, frame: FrameType | None) -> None:
        if handling:
            return  # the signal arrived again during its handling
        handling.append(os.getpid())
        if os.getpid() == runtime.pid:
            _say(runtime, "handling", task)
        deed(got, frame)

    return lambda: _done(signal.signal(number, handler))


def _say(runtime: Runtime, event: str, task: Task) -> None:
    try:
        runtime.write(event, fault=task.id)
    except OSError:
        pass  # then there is no evidence; the program must not see the error


def _die_of(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _number(task: Task) -> int:
    return _number_of(task.text("signal"))


def _numbers(task: Task) -> list[int]:
    given = task.params["signals"]
    return [_number_of(str(name)) for name in given] if isinstance(given, list) else []


def _number_of(name: str) -> int:
    """Return the number of a signal named as in plans: real-time ones are ``SIGRTMIN+n``."""
    known, _, more = name.partition("+")
    return int(getattr(signal, known)) + int(more or 0)


def _done(_: object) -> None:
    """Discard a return value."""


ACTIONS: dict[str, Callable[[Runtime, Task], Effect]] = {
    "block_signal": block,
    "ignore_signal": ignore,
    "slow_handler": slow,
    "raising_handler": raising,
    "exit_zero_handler": exit_zero,
    "reraising_handler": reraise,
    "forking_handler": fork,
}
"""Actions by the name of the fault in the catalogue."""
