"""Start of one rank: a program or a Python function. The supervisor uses the same kind of handle for both.

Names are imported lazily, as in derail itself; they are those of torch's ``subprocess_handler``.
"""

from __future__ import annotations

TYPE_CHECKING = not __name__  # False, in a form that editors do not evaluate; importing typing costs more than the rest
if TYPE_CHECKING:
    from derail.spawn.command import SubprocessHandler, get_subprocess_handler

__all__ = ["SubprocessHandler", "get_subprocess_handler"]


if not TYPE_CHECKING:  # a type checker must not mistake a misspelt name for a lazy one

    def __getattr__(name: str) -> object:
        """Import a public name from its module, and cache it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
        from derail.spawn import command

        globals()[name] = getattr(command, name)
        return globals()[name]
