"""Loaded modules that count as installed, and those that count as the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import pytest

from derail.spawn.zygote import import_scan
from derail.spawn.zygote.import_scan import imports_of, is_installed

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
    """A virtual environment may include folders of modules outside of it."""
    place = tmp_path / folder
    place.mkdir(parents=True)
    name = f"module_{os.path.basename(folder).replace('-', '_')}"
    (place / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(place)
    monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    assert is_installed(name) is installed


def test_modules_that_a_call_at_the_top_imports_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test module skips itself where a module is missing, and a name may hold a module."""
    (tmp_path / "skips_itself.py").write_text(
        "import importlib\nimport pytest\nfirst = pytest.importorskip('colorsys')\n"
        "pytest.importorskip('wave')\nthird: object = importlib.import_module('json')\nprint('importorskip')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("skips_itself")
    monkeypatch.setitem(sys.modules, "skips_itself", module)

    assert imports_of(module) == ("importlib", "pytest", "colorsys", "wave", "json")


def test_imports_of_the_users_own_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite names only its package, which is found by PYTHONPATH; the slow imports are deep inside."""
    package = tmp_path / "own_package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("from .deep import thing\nimport colorsys\n")
    (package / "deep" / "__init__.py").write_text("from ..other import thing\n")
    (package / "other.py").write_text("import own_package.deep  # a circle\nimport wave\nthing = wave\n")
    (tmp_path / "its_test.py").write_text("from own_package import thing\n")
    names = ("own_package", "own_package.deep", "own_package.other", "its_test")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("its_test")
    for name in names:
        monkeypatch.setitem(sys.modules, name, sys.modules[name])

    assert imports_of(module) == ("colorsys", "wave")
    monkeypatch.setattr(import_scan, "LOOKED_THROUGH", 40)
    assert imports_of(module) == ("colorsys",)
