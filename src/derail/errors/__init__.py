"""The error file, on both sides: the rank records its fatal error, the launcher reads it as a failure.

Names are imported lazily, as in derail itself: a rank that only imports ``record`` does not load the launcher's part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derail.errors.failure import ProcessFailure
    from derail.errors.recorder import ErrorHandler, get_error_handler, record
    from derail.errors.summary import ChildFailedError

__all__ = ["ChildFailedError", "ErrorHandler", "ProcessFailure", "get_error_handler", "record"]

_MODULES = {"ProcessFailure": "failure", "ChildFailedError": "summary"}


if not TYPE_CHECKING:  # a type checker must not mistake a misspelt name for a lazy one

    def __getattr__(name: str) -> object:
        """Import the module that defines ``name``, and cache the name."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'recorder')}"), name)
        globals()[name] = value
        return value
