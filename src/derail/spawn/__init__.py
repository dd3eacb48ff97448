"""Starting one rank: a program, or a Python function. Whatever it is, the supervisor holds one kind of handle.

A door like that of derail itself, to what torch keeps in ``subprocess_handler``.
"""

from __future__ import annotations

TYPE_CHECKING = not __name__  # False, which editors must not evaluate; typing's own costs more than all else here
if TYPE_CHECKING:
    from derail.spawn.command import SubprocessHandler, get_subprocess_handler

__all__ = ["SubprocessHandler", "get_subprocess_handler"]


if not TYPE_CHECKING:  # a type checker must not take a misspelt name for a lazy one

    def __getattr__(name: str) -> object:
        """Import a public name from where it lives, and keep it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
        from derail.spawn import command

        globals()[name] = getattr(command, name)
        return globals()[name]
