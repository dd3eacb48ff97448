"""Scan of the modules that a function's own module imports, and of their origins; runs in the launcher."""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections import deque
from importlib.machinery import PathFinder
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from derail.spawn.process_exit import MPI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


LOOKED_THROUGH = 1 << 20
"""Bytes of the user's own modules that are searched for imports, the nearest ones first: half a second at most."""


def imports_of(target: Callable[..., Any] | ModuleType) -> tuple[str, ...]:
    """Return the installed modules that a module imports at its top level: a function's own module, or the given one.

    Those imported by the user's own modules that it imports are included. A package that is not installed, in a
    ``src`` layout or found by PYTHONPATH, contains the slow imports.

    Only modules loaded here are returned, so that no new code runs. The user's own modules are not, because they may
    read RANK when they are imported. Nor are those that import ``mpi4py.MPI``.
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
                if not starts_mpi(name):
                    installed[name] = None
                continue
            for package in _with_packages(name):
                if package in sys.modules and package not in own and package.partition(".")[0] != "derail":
                    own[package] = None
                    queue.append(sys.modules[package])
    return tuple(installed)


def is_installed(name: str) -> bool:
    """Return whether a loaded module is Python's own or installed, not the user's; every rank has derail anyway."""
    top = name.partition(".")[0]
    if top == "derail":
        return False
    if top in sys.stdlib_module_names:
        return True
    file = str(getattr(sys.modules.get(name), "__file__", None) or "")
    return file.startswith(_installed()) or not SITE_FOLDERS.isdisjoint(file.split(os.sep))


def starts_mpi(name: str) -> bool:
    """Return whether a module, or another one of its package, imports ``mpi4py.MPI``, directly or by other packages."""
    return name == MPI or (MPI in sys.modules and name.partition(".")[0] in _packages_with_mpi(len(sys.modules)))


@functools.lru_cache(maxsize=1)
def _packages_with_mpi(modules: int) -> frozenset[str]:
    """Return the packages that have imported ``mpi4py.MPI`` in this process, cached by the number of loaded modules.

    A package has imported another one if a variable of its modules holds a module, class or function of that one.
    """
    del modules
    users: dict[str, set[str]] = {}
    for name, module in list(sys.modules.items()):
        top = MPI if name == MPI else name.partition(".")[0]
        for value in list(vars(module).values()) if isinstance(module, ModuleType) else ():
            home = _home(value)
            users.setdefault(MPI if home == MPI else home.partition(".")[0], set()).add(top)
    found, queue = {MPI}, [MPI]
    while queue:
        new = users.get(queue.pop(), set()) - found
        found |= new
        queue += new
    return frozenset(found)


def _home(value: object) -> str:
    """Return the module of a value, without calling any code of the value, which may be a proxy."""
    kind = type(value)
    if kind is ModuleType:
        name: object = vars(value).get("__name__")
    elif issubclass(kind, type):
        name = vars(value).get("__module__")
    else:
        name = getattr(value, "__module__", "") if kind is FunctionType else kind.__module__
    return name if isinstance(name, str) else ""


SITE_FOLDERS = frozenset({"site-packages", "dist-packages"})
"""Names of folders with installed modules. Those of the user and of the system, visible in some virtual environments,
are not among the paths of ``sysconfig``."""


@functools.cache
def _installed() -> tuple[str, ...]:
    import sysconfig

    return tuple(f"{sysconfig.get_path(key)}{os.sep}" for key in ("purelib", "platlib"))


def origins(names: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of the top-level packages of modules as in this process: another path is another module."""
    return tuple(_origin(name) for name in sorted({name.partition(".")[0] for name in names}))


def _origin(name: str) -> str:
    module = sys.modules.get(name)
    if module is not None:
        return str(getattr(module, "__file__", None) or "")
    try:
        spec = PathFinder.find_spec(name)
    except Exception:  # finders are third-party code
        return ""
    return "" if spec is None else str(spec.origin or "")


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
    """Yield the imported modules, and the imported names that may be modules."""
    for statement in statements:
        match statement:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                above = package.split(".")[: -(level - 1) or None] if level else []
                module = ".".join(filter(None, [*above, module]))
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Assign(value=call) | ast.AnnAssign(value=call) | ast.Expr(value=call) if isinstance(
                call, ast.Call
            ):
                yield from _imported_by(call)
            case ast.If() | ast.Try() | ast.With():
                yield from _names([*statement.body, *getattr(statement, "orelse", ())], package)


def _imported_by(call: ast.Call) -> Iterator[str]:
    """Yield the module that a call like ``pytest.importorskip("torch")`` imports."""
    match call:
        case ast.Call(
            func=ast.Attribute(attr="importorskip" | "import_module") | ast.Name(id="importorskip" | "import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            yield name


def _with_packages(name: str) -> Iterator[str]:
    """Yield a module after its parent packages, which are imported before it."""
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
