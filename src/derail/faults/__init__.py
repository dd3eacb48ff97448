"""Breaking jobs on purpose, and proving that it happened.

``faults.plan([...], seed=7)`` puts faults together; each fault of the catalogue has a function here of the same name:
``faults.signal("SIGKILL", rank=2, when=when.line("step 3"))``. They are made when they are first asked for; editors and
type checkers read them in the stub beside this file, which is written from the same catalogue.

``fail_point("name")`` is for the program of a rank: a place at which ``when.point("name")`` lets something happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.faults.inrank.fail_point import fail_point as fail_point
from derail.faults.model.plan import Fault as Fault  # noqa: TC001 - a public name
from derail.faults.model.plan import Plan as Plan
from derail.faults.model.plan import Target as Target
from derail.faults.model.plan import plan as plan
from derail.model.input_error import InputError as InputError

if TYPE_CHECKING:
    from collections.abc import Callable


def __getattr__(name: str) -> Callable[..., Fault] | list[str]:
    """Make the builder of one kind of fault from its catalogue entry, and keep it."""
    __tracebackhide__ = True  # pytest shows the line with the misspelt name instead
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module 'derail.faults' has no attribute {name!r}")
    from importlib.util import find_spec

    if find_spec(f"{__name__}.{name}") is not None:  # a module that is not imported yet: Python asks here first
        raise AttributeError(f"module 'derail.faults' has no attribute {name!r}")
    from derail.faults.registry import builder, public_names

    if name == "__all__":  # not a list in this file: the names of all faults take the import of all injectors
        return public_names()
    try:
        made: Callable[..., Fault] = builder(name)
    except InputError as error:
        raise AttributeError(f"module 'derail.faults': {error}") from None
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    """Return the names above, and every fault of the catalogue."""
    from derail.faults.registry import public_names

    return sorted({*globals(), *public_names()})
