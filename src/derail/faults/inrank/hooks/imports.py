"""Hook for imports of modules: before their first line, and after their last. It is removed when nothing waits."""

from __future__ import annotations

import builtins
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from .hit_counter import Lookout

_before: dict[str, list[Lookout]] = {}
_after: dict[str, list[Callable[[object], None]]] = {}


def when_imported(name: str, action: Callable[[object], None]) -> None:
    """Call ``action`` with a module as soon as it is imported: now, or right after its last line."""
    module = sys.modules.get(name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        action(module)
    else:
        _after.setdefault(name, []).append(action)
        _enter()


def look_out(name: str, reached: Lookout) -> None:
    """Call ``reached`` at the next import of a module, right before its first line if it has not run."""
    if name in sys.modules:
        _watch_statements(name, reached)
    else:
        _before.setdefault(name, []).append(reached)
        _enter()


class Finder:
    """First finder on ``sys.meta_path``: it finds no module itself, and wraps the loaders of awaited modules."""

    def __init__(self) -> None:
        self._asking: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders find, with a wrapped loader."""
        if name in self._asking or not (name in _before or name in _after):
            return None
        self._asking.add(name)
        try:
            for finder in sys.meta_path:
                spec = None if finder is self else finder.find_spec(name, path, target)
                if spec is not None:
                    if hasattr(spec.loader, "exec_module"):
                        spec.loader = Loader(spec.loader)  # type: ignore[assignment]
                    return spec
        finally:
            self._asking.discard(name)
        return None


class Loader:
    """Loader of an awaited module."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Delegate to the real loader."""
        made: ModuleType | None = self.real.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Report the import, run the module under its real loader, and report that it is loaded."""
        if module.__spec__ is not None:
            module.__spec__.loader = self.real
        module.__loader__ = self.real
        name = module.__name__
        for reached in _before.pop(name, []):
            reached(sys._getframe(1))  # noqa: SLF001 - the import machinery; the importing code is further out
        self.real.exec_module(module)
        for action in _after.pop(name, []):
            action(sys.modules.get(name, module))
        _leave()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


_finder = Finder()


def _enter() -> None:
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def _leave() -> None:
    if not (_before or _after) and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def _watch_statements(name: str, reached: Lookout) -> None:
    """Watch import statements for a module that is already imported: they only look it up."""
    real = builtins.__import__

    def look(wanted: str, *args: Any, **options: Any) -> Any:
        if wanted == name:
            if builtins.__import__ is look:
                builtins.__import__ = real
            reached(sys._getframe(1))  # noqa: SLF001 - the importing code
        return real(wanted, *args, **options)

    builtins.__import__ = look  # type: ignore[assignment]
