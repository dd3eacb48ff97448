"""Actions of faults inside a rank. An action checks and prepares, and returns the effect on the main thread.

An exception while preparing is journalled as a failed injection. The effect runs unguarded: an exception is raised, or
a function is called, which may exit or never return.
"""

from __future__ import annotations

from . import child_waits, clock, crashes, delayed_crashes, hang, logs, network, process, resources, signals, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..api import Effect, Runtime
    from ..rank_plan import Task


ACTIONS: dict[str, Callable[[Runtime, Task], Effect]] = {
    **process.ACTIONS,
    **crashes.ACTIONS,
    **delayed_crashes.ACTIONS,
    **hang.ACTIONS,
    **values.ACTIONS,
    "fd_leak": resources.leak,
    "dns_failure": network.lose_names,
    "clock_offset": clock.offset,
    "clock_drift": clock.drift,
    "clock_freeze": clock.freeze,
    "clock_step_back": clock.step_back,
    **signals.ACTIONS,
    **logs.ACTIONS,
    **child_waits.ACTIONS,
}
"""Actions by the name of the fault in the catalogue."""
