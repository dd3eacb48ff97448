"""Which loaded modules count as installed, and which as the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import pytest

from derail.spawn.imports import is_installed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("folder", "installed"),
    [
        ("home/.local/lib/python3/site-packages", True),
        ("usr/lib/python3/dist-packages", True),
        ("home/project", False),
        ("home/my-site-packages", False),
    ],
)
def test_modules_of_the_user_and_of_the_system_are_installed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, installed: bool
) -> None:
    """A virtual environment may see folders of modules that are not its own."""
    place = tmp_path / folder
    place.mkdir(parents=True)
    name = f"module_{os.path.basename(folder).replace('-', '_')}"
    (place / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(place)
    monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    assert is_installed(name) is installed
