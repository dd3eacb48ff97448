"""Watchpoints on functions of modules, set when the module is imported."""

from __future__ import annotations

from . import imports, main_module_calls
from .spots import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .hit_counter import Lookout


def look_out(
    target: str, at: str, reached: Lookout, *, found: Callable[[], None], impossible: Callable[[str], None], main: bool
) -> None:
    """Report the calls of ``module:path`` from the moment its module is imported.

    Args:
        target: the function.
        at: "enter" or "exit".
        reached: called with the caller's frame, until it is over.
        found: called once the function is resolved.
        impossible: called with a reason if it can never be watched.
        main: whether ``__main__`` has not run yet.
    """
    module, _, path = target.partition(":")

    def begin(there: object) -> None:
        try:
            watch(there, path).add(at, reached)
        except LookupError as error:
            impossible(str(error.args[0]))
        else:
            found()

    if module == "__main__" and main:
        main_module_calls.look_out(path, at, reached, found=found, impossible=impossible)
    else:
        imports.when_imported(module, begin)
