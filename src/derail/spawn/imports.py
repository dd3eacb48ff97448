"""In the launcher: which modules a function's own module imports, and where modules come from."""

from __future__ import annotations

import ast
import functools
import os
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType


def imports_of(target: Callable[..., Any] | ModuleType) -> tuple[str, ...]:
    """The installed modules that a module imports at its top level: a function's own module, or the given one.

    Only what is loaded here is named, so that nothing new is run; and no module of the user's own, which may look at
    RANK when it is imported.
    """
    module = target if isinstance(target, type(sys)) else sys.modules.get(_module_name(target))
    path = getattr(module, "__file__", None)
    if module is None or path is None or not path.endswith(".py"):
        return ()
    try:
        names = _imports_in(path, os.stat(path).st_mtime_ns)
    except (OSError, SyntaxError, ValueError):
        return ()
    return tuple(name for name in names if name in sys.modules and is_installed(name))


def is_installed(name: str) -> bool:
    """Whether a loaded module is Python's own or installed, and not the user's; derail is in every rank anyway."""
    top = name.partition(".")[0]
    if top == "derail":
        return False
    if top in sys.stdlib_module_names:
        return True
    file = str(getattr(sys.modules.get(name), "__file__", None) or "")
    return file.startswith(_installed()) or not SITE_FOLDERS.isdisjoint(file.split(os.sep))


SITE_FOLDERS = frozenset({"site-packages", "dist-packages"})
"""Names of folders with installed modules: those of the user and of the system, which a virtual environment may see,
are not among the paths of ``sysconfig``."""


@functools.cache
def _installed() -> tuple[str, ...]:
    import sysconfig

    return tuple(f"{sysconfig.get_path(key)}{os.sep}" for key in ("purelib", "platlib"))


def origins(names: Iterable[str]) -> tuple[str, ...]:
    """Where the top-level packages of modules lie, as this process sees it: another place is another module."""
    return tuple(_origin(name) for name in sorted({name.partition(".")[0] for name in names}))


def _origin(name: str) -> str:
    module = sys.modules.get(name)
    if module is not None:
        return str(getattr(module, "__file__", None) or "")
    try:
        found = PathFinder.find_spec(name)
    except Exception:  # finders are the code of others
        return ""
    return "" if found is None else str(found.origin or "")


def _module_name(target: Any) -> str:
    while isinstance(target, functools.partial):
        target = target.func
    return str(getattr(target, "__module__", "") or getattr(type(target), "__module__", ""))


@functools.lru_cache(maxsize=256)
def _imports_in(path: str, _mtime_ns: int) -> tuple[str, ...]:
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    return tuple(dict.fromkeys(_names(tree.body)))


def _names(statements: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        match statement:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.If() | ast.Try() | ast.With():
                yield from _names([*statement.body, *getattr(statement, "orelse", ())])
