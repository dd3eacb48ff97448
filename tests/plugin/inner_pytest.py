"""A real pytest in a process of its own, as tests of the plugin see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class RunPytest(Protocol):
    """Writes a test module and runs it in a pytest of its own."""

    def __call__(
        self, source: str, /, *options: str, ini: str = "", conftest: str = "", plugins: tuple[str, ...] = ()
    ) -> pytest.RunResult:
        """Return what it came to. No plugin is loaded but ours and ``plugins``."""
        ...


def evidence_of(base: Path) -> list[str]:
    """The folders of evidence below a directory."""
    return sorted(path.parent.name for path in base.rglob("journal.jsonl"))
