"""Where the evidence of a test lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def evidence_folder(paths: pytest.TempPathFactory, item: pytest.Item) -> Path:
    """A new folder among pytest's temporary ones, with the name of the test."""
    name = "".join(char if char.isalnum() or char in "-_" else "_" for char in item.name)
    return paths.mktemp(f"derail-{name[:40]}", numbered=True)
