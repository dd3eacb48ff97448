"""``fail_point("name")``: a place in a program at which a plan may let something happen. Disarmed it is one look-up."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_armed: dict[str, Callable[[], None]] = {}


def fail_point(name: str) -> None:
    """Let happen whatever the plan has for this point. Without a plan, nothing."""
    if name in _armed:
        _armed[name]()


def adopt(points: dict[str, Callable[[], None]]) -> None:
    """Use the points of a runtime."""
    global _armed  # noqa: PLW0603 - read at every point; nothing is faster than a global
    _armed = points


# A runtime may have been started before this module was imported, under its private name.
for _name in ("_derail_inrank.bootstrap", "derail.faults.inrank.bootstrap"):
    _runtime = getattr(sys.modules.get(_name), "current", None)
    if _runtime is not None:
        adopt(_runtime.points)
