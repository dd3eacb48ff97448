"""The error file, from both ends: the rank writes down what it dies of, the launcher makes a failure of it.

A door like that of derail itself: a rank that only asks for ``record`` does not load what the launcher needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derail.errors.failure import ProcessFailure
    from derail.errors.recorder import ErrorHandler, get_error_handler, record
    from derail.errors.summary import ChildFailedError

__all__ = ["ChildFailedError", "ErrorHandler", "ProcessFailure", "get_error_handler", "record"]

_MODULES = {"ProcessFailure": "failure", "ChildFailedError": "summary"}


if not TYPE_CHECKING:  # a type checker must not take a misspelt name for a lazy one

    def __getattr__(name: str) -> object:
        """Import the file that defines ``name``, and keep the name for next time."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'recorder')}"), name)
        globals()[name] = value
        return value
