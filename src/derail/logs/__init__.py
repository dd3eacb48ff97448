"""Log files: their names, their lines, and the destinations of the lines.

Names are imported lazily, as in derail itself: a rank that only redirects its streams does not load the launcher's
part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# Not lazy: the function has the name of its module, and must win.
from derail.logs.redirect import get_std_cm, redirect, redirect_stderr, redirect_stdout

if TYPE_CHECKING:
    from derail.logs.lines import LineAssembler, Lines, shown
    from derail.logs.sinks import ConsoleSink, FilteredFile, LastLines, tail_of
    from derail.logs.specs import DefaultLogsSpecs, LogsDest, LogsSpecs
    from derail.logs.tail import Tail
    from derail.logs.tail_log import TailLog, tail_logfile

__all__ = [
    "ConsoleSink",
    "DefaultLogsSpecs",
    "FilteredFile",
    "LastLines",
    "LineAssembler",
    "Lines",
    "LogsDest",
    "LogsSpecs",
    "Tail",
    "TailLog",
    "get_std_cm",
    "redirect",
    "redirect_stderr",
    "redirect_stdout",
    "shown",
    "tail_logfile",
    "tail_of",
]

_MODULES = {
    "lines": ("LineAssembler", "Lines", "shown"),
    "sinks": ("ConsoleSink", "FilteredFile", "LastLines", "tail_of"),
    "specs": ("DefaultLogsSpecs", "LogsDest", "LogsSpecs"),
    "tail": ("Tail",),
    "tail_log": ("TailLog", "tail_logfile"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # a type checker must not mistake a misspelt name for a lazy one

    def __getattr__(name: str) -> object:
        """Import the module that defines ``name``, and cache the name."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
