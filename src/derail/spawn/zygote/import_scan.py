"""In the launcher: which modules a function's own module imports, and where modules come from."""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections import deque
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType


LOOKED_THROUGH = 1 << 20
"""Bytes of the user's own modules that are searched for imports, the nearest ones first: half a second at most."""


def imports_of(target: Callable[..., Any] | ModuleType) -> tuple[str, ...]:
    """The installed modules that a module imports at its top level: a function's own module, or the given one. Those of
    the user's own modules that it imports are among them: a package that is not installed, of a ``src`` layout or found
    by PYTHONPATH, has the imports that take long.

    Only what is loaded here is named, so that nothing new is run; and no module of the user's own, which may look at
    RANK when it is imported.
    """
    first = target.__name__ if isinstance(target, type(sys)) else _module_name(target)
    installed: dict[str, None] = {}
    own, left = {first: None}, LOOKED_THROUGH
    queue = deque([target if isinstance(target, type(sys)) else sys.modules.get(first)])
    while queue and left > 0:
        module = queue.popleft()
        path = getattr(module, "__file__", None)
        if module is None or path is None or not path.endswith(".py"):
            continue
        try:
            about = os.stat(path)
            names = _imports_in(path, about.st_mtime_ns, str(getattr(module, "__package__", None) or ""))
        except (OSError, SyntaxError, ValueError):
            continue
        left -= about.st_size
        for name in names:
            if name in sys.modules and is_installed(name):
                installed[name] = None
                continue
            for package in _with_packages(name):
                if package in sys.modules and package not in own and package.partition(".")[0] != "derail":
                    own[package] = None
                    queue.append(sys.modules[package])
    return tuple(installed)


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
def _imports_in(path: str, _mtime_ns: int, package: str) -> tuple[str, ...]:
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    return tuple(dict.fromkeys(_names(tree.body, package)))


def _names(statements: Iterable[ast.stmt], package: str) -> Iterator[str]:
    """The modules that are named, and the names that may be modules."""
    for statement in statements:
        match statement:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                above = package.split(".")[: -(level - 1) or None] if level else []
                module = ".".join(filter(None, [*above, module]))
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.If() | ast.Try() | ast.With():
                yield from _names([*statement.body, *getattr(statement, "orelse", ())], package)


def _with_packages(name: str) -> Iterator[str]:
    """A module, after the packages that it is in, which are imported before it."""
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
