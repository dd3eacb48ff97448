"""Random jobs of scripted ranks that check the promises of a launcher.

A door like that of derail itself: a scripted rank does not load what drives it.
"""

from __future__ import annotations

TYPE_CHECKING = not __name__  # False, which editors must not evaluate; typing's own costs more than all else here
if TYPE_CHECKING:
    from derail.conformance.adapter import Driven, Promises, Told
    from derail.conformance.driver import BrokenPromise, Rehearsal
    from derail.conformance.history import History
    from derail.conformance.launchers import DerailLauncher, StartProcesses
    from derail.conformance.scripted_ranks import Crew

__all__ = [
    "BrokenPromise",
    "Crew",
    "DerailLauncher",
    "Driven",
    "History",
    "Promises",
    "Rehearsal",
    "StartProcesses",
    "Told",
]

_MODULES = {
    "adapter": ("Driven", "Promises", "Told"),
    "launchers": ("DerailLauncher", "StartProcesses"),
    "driver": ("BrokenPromise", "Rehearsal"),
    "history": ("History",),
    "scripted_ranks": ("Crew",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # a type checker must not take a misspelt name for a lazy one

    def __getattr__(name: str) -> object:
        """Import the file that defines ``name``, and keep the name for next time."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
