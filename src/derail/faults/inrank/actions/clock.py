"""Wrong wall clock inside a rank: the date that ``time`` and ``datetime`` return.

The monotonic clock stays correct, as timeouts use it. A name that was imported from ``time`` before the fault (``from
time import time``) is still the correct function.
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

_real_time = time.time  # noqa: TID251 - the clock to change
_real_clock_gettime = getattr(time, "clock_gettime", None)
LONGEST, SHORTEST = 0.5, 0.02
"""Maximum and minimum seconds to observe the rate of a clock."""
VISIBLE = 0.005
"""Seconds of error that distinguish a drifting clock from a correct one."""

READINGS = 5
"""Number of readings of the clock; the fastest one counts, since the scheduler may have interrupted others."""

_bends: list[Callable[[float], float]] = []


def offset(runtime: Runtime, task: Task) -> Effect:
    """Set the clock wrong by a number of seconds."""
    seconds = float(task.text("seconds"))
    return _effect(runtime, task, lambda _: lambda now: now + seconds, 0.0)


def step_back(runtime: Runtime, task: Task) -> Effect:
    """Set the clock back by a number of seconds."""
    seconds = float(task.text("seconds"))
    return _effect(runtime, task, lambda _: lambda now: now - seconds, 0.0)


def drift(runtime: Runtime, task: Task) -> Effect:
    """Make the clock run faster or slower."""
    factor = float(task.text("factor"))
    watched = min(LONGEST, max(SHORTEST, VISIBLE / abs(factor - 1)))
    return _effect(runtime, task, lambda began: lambda now: began + (now - began) * factor, watched)


def freeze(runtime: Runtime, task: Task) -> Effect:
    """Stop the clock."""
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
            real_time.sleep(watched)  # the rate of a clock shows only over time
        before, wall, after = min((_reading() for _ in range(READINGS)), key=lambda reading: reading[2] - reading[0])
        _say(runtime, "clock", task, since=since, before=before, after=after, wall=wall)

    return bend_clock


def _read() -> float:
    """Return the time of the clock with all changes so far."""
    now = _real_time()
    for bend in _bends:
        now = bend(now)
    return now


def _reading() -> tuple[float, float, float]:
    """Return the time of the clock, between two readings of the monotonic clock."""
    before = real_time.monotonic()
    wall = time.time()  # noqa: TID251 - the changed clock
    return before, wall, real_time.monotonic()


def _say(runtime: Runtime, event: str, task: Task, **fields: object) -> None:
    try:
        runtime.write(event, fault=task.id, **fields)
    except OSError:
        pass  # then there is no evidence; the program must not see the error


def _replace_clocks() -> None:
    """Replace the clock functions once for all changes: a second fault changes the result of the first."""
    if time.time is _read:  # noqa: TID251 - the changed clock
        return
    time.time = _read  # noqa: TID251 - the changed clock
    time.time_ns = lambda: int(_read() * 1e9)
    if _real_clock_gettime is not None:
        real = _real_clock_gettime
        time.clock_gettime = lambda clock: _read() if clock == time.CLOCK_REALTIME else real(clock)
    for name in ("localtime", "gmtime", "ctime"):
        setattr(time, name, _with_now(getattr(time, name)))
    _replace_datetime()
    # Times that derail itself writes in this rank (in error files) are those of a machine with this clock.
    imports.when_imported("derail.model.clock", _bend_ours)


def _bend_ours(module: Any) -> None:
    module.SYSTEM_CLOCK.wall = _read


def _with_now(real: Callable[..., object]) -> Callable[..., object]:
    def convert(seconds: float | None = None) -> object:
        return real(_read() if seconds is None else seconds)

    convert.__name__ = convert.__qualname__ = real.__name__
    return convert


class _CountsAsReal(type):
    """Metaclass of the replaced ``datetime`` and ``date``: real values are instances of them as well."""

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
    """Replace the classes of ``datetime``, which read the kernel's clock, by subclasses that count as the real ones."""
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

    # Older values must remain picklable, and pickle looks up their class by name.
    copyreg.pickle(real, reduce)
    return bent
