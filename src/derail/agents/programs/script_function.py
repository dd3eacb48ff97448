"""Function of a Python file that a rank can run: it is pickled as the file's path and the function's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class FileFunction:
    """Callable that runs a file in the rank and calls one of its functions.

    Attributes:
        file: the Python file, which need not be importable.
        function: the function's name in it.
    """

    file: Path
    function: str

    @property
    def __name__(self) -> str:
        """Name of the function, for reports."""
        return self.function

    def __call__(self, *args: Any) -> Any:
        """Run the file, and call the function.

        Raises:
            AttributeError: if the file defines no such function.
        """
        import sys
        from types import ModuleType

        module = ModuleType(self.file.stem)
        module.__file__ = str(self.file)
        sys.modules[module.__name__] = module  # unpickling of its return value finds classes there
        exec(compile(self.file.read_bytes(), self.file, "exec"), module.__dict__)  # leaves no bytecode beside the file
        return getattr(module, self.function)(*args)
