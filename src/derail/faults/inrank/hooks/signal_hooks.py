"""Hook that reports signals to the process before the program's own action, which then runs."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from .hit_counter import Lookout

_real_signal, _real_getsignal = signal.signal, signal.getsignal
_waiting: dict[int, list[Lookout]] = {}
_program: dict[int, Any] = {}
"""Action that the program has set, by signal."""


def look_out(number: int, reached: Lookout) -> None:
    """Call ``reached`` when a signal arrives; the program sees its own handlers unchanged.

    Raises:
        OSError, ValueError: if this signal cannot have a handler.
    """
    if number not in _waiting:
        _program[number] = _real_getsignal(number)
        _real_signal(number, _handle)
        signal.signal, signal.getsignal = _set, _get
    _waiting.setdefault(number, []).append(reached)


def _handle(number: int, frame: FrameType | None) -> None:
    try:
        for reached in list(_waiting.get(number, ())):
            reached(frame)
    finally:
        if all(reached.over for reached in _waiting.get(number, ())):
            _put_back(number)
    _do(number, frame)


def _put_back(number: int) -> None:
    if _waiting.pop(number, None) is not None and _program[number] is not None:
        _real_signal(number, _program[number])
    if not _waiting:
        signal.signal, signal.getsignal = _real_signal, _real_getsignal


def _do(number: int, frame: FrameType | None) -> None:
    """Take the action that would have been taken without the hook."""
    wanted = _program[number]
    if callable(wanted):
        wanted(number, frame)
    elif wanted == signal.SIG_DFL:
        _real_signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        if number in _waiting:  # the default action did not end the process
            _real_signal(number, _handle)


def _set(signalnum: int, handler: Any) -> Any:
    if int(signalnum) not in _waiting or not (callable(handler) or handler in (signal.SIG_DFL, signal.SIG_IGN)):
        return _real_signal(signalnum, handler)
    _real_signal(signalnum, _handle)  # raises what the real call raises, such as in another thread
    before, _program[int(signalnum)] = _program[int(signalnum)], handler
    return before


def _get(signalnum: int) -> Any:
    return _program[int(signalnum)] if int(signalnum) in _waiting else _real_getsignal(signalnum)
