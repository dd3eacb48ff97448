"""``fail_point("name")``: a named place in a program where a plan can inject a fault. Disarmed it is one look-up."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_armed: dict[str, Callable[[], None]] = {}


def fail_point(name: str) -> None:
    """Inject the faults that the plan has for this point; without a plan, do nothing."""
    if name in _armed:
        _armed[name]()


def adopt(points: dict[str, Callable[[], None]]) -> None:
    """Use the points of a runtime."""
    global _armed  # noqa: PLW0603 - read at every point; a global is fastest
    _armed = points


# A runtime may have been started before this module was imported, under its private name.
for _name in ("_derail_inrank.bootstrap", "derail.faults.inrank.bootstrap"):
    _runtime = getattr(sys.modules.get(_name), "current", None)
    if _runtime is not None:
        adopt(_runtime.points)
