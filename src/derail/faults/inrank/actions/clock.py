"""A wall clock that goes wrong inside a rank: what ``time`` and ``datetime`` say of the date, for those who ask there.

The monotonic clock stays right: timeouts measure with it. A name that was imported from ``time`` before the fault
(``from time import time``) is the right function still.
"""

from __future__ import annotations

import time

from .. import real_time
from ..hooks import imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from typing import Any

    from ..api import Effect, Runtime
    from ..rank_plan import Task

    Bend = Callable[[float], float]

_real_time = time.time  # noqa: TID251 - it is the clock that is bent
_real_clock_gettime = getattr(time, "clock_gettime", None)
LONGEST, SHORTEST = 0.5, 0.02
"""Seconds for which a clock is watched to see how it runs."""
VISIBLE = 0.005
"""Seconds by which a drifting clock must be wrong to be told from a right one."""

READINGS = 5
"""How often the clock is read; the reading that took least counts, since somebody may have been held up in one."""

_bends: list[Callable[[float], float]] = []


def offset(runtime: Runtime, task: Task) -> Effect:
    """The clock is wrong by so many seconds."""
    seconds = float(task.text("seconds"))
    return _effect(runtime, task, lambda _: lambda now: now + seconds, 0.0)


def step_back(runtime: Runtime, task: Task) -> Effect:
    """The clock goes back by so many seconds."""
    seconds = float(task.text("seconds"))
    return _effect(runtime, task, lambda _: lambda now: now - seconds, 0.0)


def drift(runtime: Runtime, task: Task) -> Effect:
    """The clock runs faster or slower."""
    factor = float(task.text("factor"))
    watched = min(LONGEST, max(SHORTEST, VISIBLE / abs(factor - 1)))
    return _effect(runtime, task, lambda began: lambda now: began + (now - began) * factor, watched)


def freeze(runtime: Runtime, task: Task) -> Effect:
    """The clock stands."""
    return _effect(runtime, task, lambda began: lambda _: began, SHORTEST)


def _effect(runtime: Runtime, task: Task, bend_from: Callable[[float], Bend], watched: float) -> Effect:
    def bend_clock() -> None:
        began, since = _read(), real_time.monotonic()
        bend = bend_from(began)
        healed: list[bool] = []

        def bend_for_a_while(now: float) -> float:
            if task.seconds is None or real_time.monotonic() < since + task.seconds:
                return bend(now)
            if not healed:
                healed.append(True)
                _say(runtime, "healed", task)
            return now

        _bends.append(bend_for_a_while)
        _replace_clocks()
        if watched:
            real_time.sleep(watched)  # how a clock runs shows only with time
        before, wall, after = min((_reading() for _ in range(READINGS)), key=lambda reading: reading[2] - reading[0])
        _say(runtime, "clock", task, since=since, before=before, after=after, wall=wall)

    return bend_clock


def _read() -> float:
    """What the clock says, bent as it is so far."""
    now = _real_time()
    for bend in _bends:
        now = bend(now)
    return now


def _reading() -> tuple[float, float, float]:
    """What the clock says, between two looks at the monotonic one."""
    before = real_time.monotonic()
    wall = time.time()  # noqa: TID251 - it is the clock that was bent
    return before, wall, real_time.monotonic()


def _say(runtime: Runtime, event: str, task: Task, **fields: object) -> None:
    try:
        runtime.write(event, fault=task.id, **fields)
    except OSError:
        pass  # then nothing proves it; the program must not hear of that


def _replace_clocks() -> None:
    """Once for all bends: a second fault bends what the first one left."""
    if time.time is _read:  # noqa: TID251 - it is the clock that is bent
        return
    time.time = _read  # noqa: TID251 - it is the clock that is bent
    time.time_ns = lambda: int(_read() * 1e9)
    if _real_clock_gettime is not None:
        real = _real_clock_gettime
        time.clock_gettime = lambda clock: _read() if clock == time.CLOCK_REALTIME else real(clock)
    for name in ("localtime", "gmtime", "ctime"):
        setattr(time, name, _with_now(getattr(time, name)))
    _replace_datetime()
    # The times that derail itself writes in this rank, in error files say, are those of a machine with this clock.
    imports.when_imported("derail.model.clock", _bend_ours)


def _bend_ours(module: Any) -> None:
    module.SYSTEM_CLOCK.wall = _read


def _with_now(real: Callable[..., object]) -> Callable[..., object]:
    def convert(seconds: float | None = None) -> object:
        return real(_read() if seconds is None else seconds)

    convert.__name__ = convert.__qualname__ = real.__name__
    return convert


class _CountsAsReal(type):
    """The type of our ``datetime`` and ``date``: real values are values of theirs too."""

    def __instancecheck__(cls, instance: object) -> bool:
        real = cls.__dict__.get("_real")
        return isinstance(instance, real) if isinstance(real, type) else super().__instancecheck__(instance)

    def __subclasscheck__(cls, kind: type) -> bool:
        real = cls.__dict__.get("_real")
        return issubclass(kind, real) if isinstance(real, type) else super().__subclasscheck__(kind)


def _now(cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
    return cls.fromtimestamp(_read(), tz)


def _utcnow(cls: type[dt.datetime]) -> dt.datetime:
    return cls(1970, 1, 1) + _delta(_read())


def _today(cls: type[dt.date]) -> dt.date:
    return cls.fromtimestamp(_read())


def _delta(seconds: float) -> dt.timedelta:
    import datetime as dt

    return dt.timedelta(seconds=seconds)


def _replace_datetime() -> None:
    """``datetime`` asks the kernel itself: give it subclasses that ask us, and that count as the real ones."""
    import datetime as dt

    today = classmethod(_today)
    dt.datetime = _bent(dt.datetime, now=classmethod(_now), utcnow=classmethod(_utcnow), today=today)  # type: ignore[assignment,misc]
    dt.date = _bent(dt.date, today=today)  # type: ignore[assignment,misc]


def _bent(real: type, **instead: object) -> type:
    import copyreg

    told = {"__module__": real.__module__, "__qualname__": real.__name__, "_real": real}
    bent = _CountsAsReal(real.__name__, (real,), {**told, **instead})

    def reduce(value: object) -> tuple[type, tuple[object, ...]]:
        return bent, tuple(value.__reduce__()[1])

    # Values that were made before must still travel by pickle, which looks their class up by its name.
    copyreg.pickle(real, reduce)
    return bent
