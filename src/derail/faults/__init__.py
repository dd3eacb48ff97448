"""Breaking jobs on purpose, and proving that it happened.

``faults.plan([...], seed=7)`` puts faults together; every fault of the catalogue has a function of its own name here:
``faults.signal("SIGKILL", rank=2, when=when.line("step 3"))``. They are made when they are first asked for.

``fail_point("name")`` is for the program of a rank: a place at which ``when.point("name")`` lets something happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.faults.inrank.fail_point import fail_point

# Imported here and not lazily: `plan` is also the name of the submodule, and the function must win.
from derail.faults.model.plan import Fault, Plan, PlanError, plan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Fault", "Plan", "PlanError", "fail_point", "plan"]


def __getattr__(name: str) -> Callable[..., Fault]:
    """Make the builder of one kind of fault from its catalogue entry, and keep it."""
    if name.startswith("_"):
        raise AttributeError(f"module 'derail.faults' has no attribute {name!r}")
    from derail.faults.registry import builder

    try:
        made: Callable[..., Fault] = builder(name)
    except PlanError as error:
        raise AttributeError(f"module 'derail.faults': {error}") from None
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    """The names above, and every fault of the catalogue."""
    from derail.faults.registry import entries

    return sorted({*globals(), *entries()})
