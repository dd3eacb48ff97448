"""Stands in front of a rank's function, in ranks that are functions: there is no program whose first line could be
awaited, and a forked rank has no start of an interpreter at all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class EntryPoint:
    """Calls ``target`` between what is due at the start of the rank and what is done to the value that it returns.

    It looks like the target, and travels by pickle.
    """

    def __init__(self, target: Callable[..., Any]) -> None:
        self.target = target
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            if hasattr(target, name):
                setattr(self, name, getattr(target, name))

    def __reduce__(self) -> tuple[type[EntryPoint], tuple[Callable[..., Any]]]:
        return type(self), (self.target,)

    def __call__(self, *args: Any) -> Any:
        """Start the runtime if it does not run yet, act what is due, and call the target."""
        bootstrap = sys.modules.get("_derail_inrank.bootstrap")
        if bootstrap is None:
            from derail.faults.inrank import bootstrap as started_here

            bootstrap = started_here
        try:
            runtime = bootstrap.enter()
        except Exception as error:  # whatever it is, it is ours: the function must run as if we were not there
            sys.stderr.write(f"derail: the in-rank runtime did not start: {type(error).__name__}: {error}\n")
            runtime = None
        if runtime is None:
            return self.target(*args)
        runtime.begin()
        return runtime.returned(self.target(*args))
