"""Makes what a test module defines runnable in a rank: a fresh interpreter, which knows nothing of pytest's imports.

A function travels by its name, and the name of a test module is pytest's business: in one import mode its folder is on
``sys.path``, in another it is on none and the name was made up. So the file travels along, and the rank imports that.
"""

from __future__ import annotations

import functools
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derail.spawn.zygote.import_scan import imports_of
from pytest_derail.options import preload
from pytest_derail.ranks.worker import breakpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import pytest

OF_JOBS = "write it as a test with @pytest.mark.ranks(n) and run that with --pdb, or run the program with derail launch"
"""How to get a debugger into a rank of a job."""

Source = tuple[str, str]
"""A module's name, and the file that it must come from."""


class RankFunction:
    """A function of a test module, as a rank can run it.

    Its lines reach the rank's log when they are printed, not when a buffer is full: what a test waits for with
    ``when.line(...)``, and what was printed last before a SIGKILL, must be there.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self.run = run
        self.__name__ = getattr(run, "__name__", type(run).__name__)
        self.__qualname__ = getattr(run, "__qualname__", self.__name__)
        self.__doc__ = run.__doc__

    def __call__(self, *args: Any) -> Any:
        """Run it, with streams that pass lines on as they end."""
        breakpoints.explain(OF_JOBS)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        return self.run(*args)

    def __reduce__(self) -> tuple[object, ...]:
        """The modules come first: whatever is unpickled after them, arguments too, finds its classes."""
        return _rebuild, (tuple(_sources(self.run)), pickle.dumps(self.run))

    def __repr__(self) -> str:
        """Name the function that it runs."""
        return f"<rank function {self.__qualname__}>"


def check_importable(run: Callable[..., Any]) -> None:
    """Say early and clearly why a function could not reach a rank.

    Raises:
        TypeError: if it cannot travel to a fresh interpreter.
    """
    __tracebackhide__ = True
    try:
        pickle.dumps(run)
    except Exception as error:  # whatever an object's own __reduce__ raises is the reason
        name = getattr(run, "__qualname__", repr(run))
        raise TypeError(
            f"{name} cannot be a rank: {error}. A rank is a fresh interpreter that imports its function by name; "
            "define it at the top level of a module and hand values over with args=, or use start_method='fork'"
        ) from None


def warm_modules(config: pytest.Config, run: Callable[..., Any]) -> tuple[str, ...]:
    """Return the modules that the warm ranks of a function find imported: those that the session names, else the
    installed ones that the function's module imports; and this one, which finds the function."""
    named = preload(config)
    return (__name__, *(imports_of(run) if named is None else named))


def _sources(run: object) -> Iterator[Source]:
    """The modules that a callable is defined in, with their files; built-in ones have none and need none."""
    parts = [run]
    while parts:
        part = parts.pop()
        if isinstance(part, functools.partial):
            parts += [part.func, *part.args, *part.keywords.values()]
            continue
        owner = getattr(part, "__self__", None)
        if owner is not None and not isinstance(owner, type(sys)):
            parts.append(owner)
        for name in {getattr(part, "__module__", None), type(part).__module__}:
            file = getattr(sys.modules.get(name or ""), "__file__", None)
            if name and name != "__main__" and file and file.endswith(".py"):
                yield name, str(Path(file).resolve())


def _rebuild(sources: tuple[Source, ...], pickled: bytes) -> RankFunction:
    """In the rank: import the modules from their files, then the callable from the modules."""
    for name, file in sources:
        import_from(name, Path(file))
    return RankFunction(pickle.loads(pickled))


def import_from(name: str, file: Path) -> ModuleType:
    """Import the module ``name`` from ``file``, whatever else ``sys.path`` holds under that name.

    Packages around it are imported in the same way; a folder without ``__init__.py`` becomes a namespace.
    """
    known = sys.modules.get(name)
    if known is not None and _is_from(getattr(known, "__file__", None), file):
        return known
    parent, _, last = name.rpartition(".")
    package = _import_package(parent, _folder_of_parent(file)) if parent else None
    module = _load(name, file)
    if package is not None:
        setattr(package, last, module)
    return module


def _folder_of_parent(file: Path) -> Path:
    return file.parent.parent if file.name == "__init__.py" else file.parent


def _import_package(name: str, folder: Path) -> ModuleType:
    if (folder / "__init__.py").is_file():
        return import_from(name, folder / "__init__.py")
    known = sys.modules.get(name)
    if known is not None and str(folder) in map(str, getattr(known, "__path__", ())):
        return known
    from types import ModuleType

    parent, _, last = name.rpartition(".")
    package = _import_package(parent, folder.parent) if parent else None
    namespace = ModuleType(name, "A folder of tests.")
    namespace.__path__ = [str(folder)]
    sys.modules[name] = namespace
    if package is not None:
        setattr(package, last, namespace)
    return namespace


def _load(name: str, file: Path) -> ModuleType:
    """Load the file: through the import system where that finds the same file, else directly."""
    from importlib.util import find_spec, module_from_spec, spec_from_file_location

    sys.modules.pop(name, None)
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not _is_from(spec.origin, file):
        spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported as a Python module", name=name, path=str(file))
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _is_from(origin: str | None, file: Path) -> bool:
    return origin is not None and Path(origin).resolve() == file
