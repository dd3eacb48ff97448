"""Random jobs of scripted ranks that check the promises of a launcher.

Names are imported lazily, as in derail itself: a scripted rank does not load the code that drives it.
"""

from __future__ import annotations

TYPE_CHECKING = not __name__  # False, but opaque to editors; importing typing costs more than everything else here
if TYPE_CHECKING:
    from derail.conformance.adapter import Driven, LauncherReport, Promises
    from derail.conformance.driver import BrokenPromise, Rehearsal
    from derail.conformance.history import History
    from derail.conformance.launchers import DerailLauncher, StartProcesses
    from derail.conformance.scripted_ranks import ScriptedRanks

__all__ = [
    "BrokenPromise",
    "DerailLauncher",
    "Driven",
    "History",
    "LauncherReport",
    "Promises",
    "Rehearsal",
    "ScriptedRanks",
    "StartProcesses",
]

_MODULES = {
    "adapter": ("Driven", "Promises", "LauncherReport"),
    "launchers": ("DerailLauncher", "StartProcesses"),
    "driver": ("BrokenPromise", "Rehearsal"),
    "history": ("History",),
    "scripted_ranks": ("ScriptedRanks",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # otherwise a type checker would accept a misspelt name as a lazy one

    def __getattr__(name: str) -> object:
        """Import the module that defines ``name``, and cache the value."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
