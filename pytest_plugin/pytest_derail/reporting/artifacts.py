"""Folders for the evidence of tests."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from derail.platform.private_files import make_private
from pytest_derail.options import output_dir

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def evidence_folder(paths: pytest.TempPathFactory, item: pytest.Item) -> Path:
    """Return a new folder with the name of the test: in ``--derail-output-dir``, else among pytest's temporary ones."""
    name = "".join(char if char.isalnum() or char in "-_" else "_" for char in item.name)
    chosen = output_dir(item.config)
    return paths.mktemp(f"derail-{name[:40]}", numbered=True) if chosen is None else _numbered(chosen, name[:40])


def _numbered(directory: Path, name: str) -> Path:
    """Return a new private folder: several pytest processes may create theirs in one directory at the same time."""
    make_private(directory)
    for number in count():
        folder = directory / f"{name}-{number}"
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable: there is always a next number")
