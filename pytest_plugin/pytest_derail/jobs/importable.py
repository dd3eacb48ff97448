"""Make objects of a test module runnable in a rank, whose fresh interpreter lacks pytest's import configuration.

A function is pickled by its name, and pytest decides the name of a test module: in one import mode its folder is on
``sys.path``, in another it is not and the name is made up. So the path of the file is pickled as well, and the rank
imports that file.
"""

from __future__ import annotations

import functools
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derail.spawn.zygote.import_scan import imports_of
from pytest_derail import integrations
from pytest_derail.options import preload
from pytest_derail.protocol import OF_RECORDED_RANKS
from pytest_derail.ranks.worker import breakpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import pytest

NO_TERMINAL_IN_JOBS = (
    "a rank of a job has no terminal. To debug it, write it as a test with @pytest.mark.ranks(n), or run the program "
    "with derail launch"
)
"""Explanation of a breakpoint that fails."""

REMEDY = "define it at the top level of a module and hand values over with args=, or use start_method='fork'"
"""Advice for a function that a rank cannot import."""

Source = tuple[str, str]
"""Name of a module, and the file that it must come from."""


class RankFunction:
    """Function of a test module that a rank can run.

    Its lines reach the rank's log when they are printed, not when a buffer is full: lines for ``when.line(...)``, and
    the last lines before a SIGKILL, must be in the log.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self.run = run
        self.__name__ = getattr(run, "__name__", type(run).__name__)
        self.__qualname__ = getattr(run, "__qualname__", self.__name__)
        self.__doc__ = run.__doc__

    def __call__(self, *args: Any) -> Any:
        """Run the function with line-buffered streams, and measured if pytest-cov measures the test."""
        integrations.start_coverage()
        breakpoints.take_over(refusal=NO_TERMINAL_IN_JOBS)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        return self.run(*args)

    def __reduce__(self) -> tuple[object, ...]:
        """Return the modules first, so that objects unpickled after them, including arguments, find their classes."""
        return _rebuild, (tuple(_sources(self.run)), pickle.dumps(self.run))

    def __repr__(self) -> str:
        """Return a text with the name of the function."""
        return f"<rank function {self.__qualname__}>"


def check_importable(run: Callable[..., Any], remedy: str = REMEDY) -> None:
    """Check early that a function can be pickled for a rank.

    Args:
        run: the function.
        remedy: what to do if it cannot.

    Raises:
        TypeError: if it cannot be sent to a fresh interpreter.
    """
    __tracebackhide__ = True
    try:
        pickle.dumps(run)
    except Exception as error:  # an exception of an object's own __reduce__ is the reason
        name = getattr(run, "__qualname__", repr(run))
        raise TypeError(
            f"{name} cannot be a rank: {error}. A rank is a fresh interpreter that imports its function by name; "
            f"{remedy}"
        ) from None


def warm_modules(config: pytest.Config, run: Callable[..., Any] | ModuleType) -> tuple[str, ...]:
    """Return the modules to import in the zygote of the warm ranks of a function, or of functions of a module.

    They are those that the session names, else the installed ones that the module imports; and this module,
    which imports the function.
    """
    named = preload(config)
    return (__name__, *OF_RECORDED_RANKS, *(imports_of(run) if named is None else named))


def _sources(run: object) -> Iterator[Source]:
    """Yield the modules that define a callable, with their files; built-in ones have none and need none."""
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
    """In the rank: import the modules from their files, then unpickle the callable."""
    for name, file in sources:
        import_from(name, Path(file))
    return RankFunction(pickle.loads(pickled))


def import_from(name: str, file: Path) -> ModuleType:
    """Import the module ``name`` from ``file``, whatever else ``sys.path`` contains under that name.

    Packages around it are imported in the same way; a folder without ``__init__.py`` becomes a namespace.
    """
    present = sys.modules.get(name)
    if present is not None and _is_from(getattr(present, "__file__", None), file):
        return present
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
    present = sys.modules.get(name)
    if present is not None and str(folder) in map(str, getattr(present, "__path__", ())):
        return present
    from types import ModuleType

    parent, _, last = name.rpartition(".")
    package = _import_package(parent, folder.parent) if parent else None
    namespace = ModuleType(name, "Folder of tests.")
    namespace.__path__ = [str(folder)]
    sys.modules[name] = namespace
    if package is not None:
        setattr(package, last, namespace)
    return namespace


def _load(name: str, file: Path) -> ModuleType:
    """Load the file: through the import system if that finds the same file, else directly."""
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
