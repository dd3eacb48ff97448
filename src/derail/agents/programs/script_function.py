"""A function of a Python file, as a rank can run it: it travels as the file's path and its own name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class FileFunction:
    """Calls a function of a file, which is run for that in the rank.

    Attributes:
        file: the Python file; it need not be importable.
        function: the function's name in it.
    """

    file: Path
    function: str

    @property
    def __name__(self) -> str:
        """The function's name, for reports."""
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
        sys.modules[module.__name__] = module  # what it returns finds its classes there
        exec(compile(self.file.read_bytes(), self.file, "exec"), module.__dict__)  # which leaves no bytecode beside it
        return getattr(module, self.function)(*args)
