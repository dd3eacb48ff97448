"""Wrapper of a rank's function: a function has no first line to wait for, and a forked rank starts no interpreter."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class EntryPoint:
    """Callable that runs the faults at the start of the rank, ``target``, and the faults in its returned value.

    It has the target's name and docstring, and is picklable.
    """

    def __init__(self, target: Callable[..., Any]) -> None:
        self.target = target
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            if hasattr(target, name):
                setattr(self, name, getattr(target, name))

    def __reduce__(self) -> tuple[type[EntryPoint], tuple[Callable[..., Any]]]:
        return type(self), (self.target,)

    def __call__(self, *args: Any) -> Any:
        """Start the runtime if it does not run yet, inject the due faults, and call the target."""
        bootstrap = sys.modules.get("_derail_inrank.bootstrap")
        if bootstrap is None:
            from derail.faults.inrank import bootstrap as started_here

            bootstrap = started_here
        try:
            runtime = bootstrap.enter()
        except Exception as error:  # an error of derail: the function must run as if derail were absent
            sys.stderr.write(f"derail: the in-rank runtime did not start: {type(error).__name__}: {error}\n")
            runtime = None
        if runtime is None:
            return self.target(*args)
        runtime.begin()
        return runtime.returned(self.target(*args))
