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


def test_modules_that_initialize_mpi_are_left_to_the_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directly, or through other packages; the package of the module itself is one of them."""
    site = tmp_path / "site-packages"
    sources = {
        "mpi4py/__init__.py": "",
        "mpi4py/MPI.py": "class Comm: pass\nCOMM_WORLD = Comm()",
        "holds_module/__init__.py": "from mpi4py import MPI",
        "holds_object/__init__.py": "from .deep import function",
        "holds_object/deep.py": "from mpi4py.MPI import COMM_WORLD\ndef function(): pass",
        "uses_other/__init__.py": "from holds_object import function",
        "uses_none/__init__.py": "import wave",
    }
    for name, source in sources.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(source)
    packages = ["mpi4py", "holds_module", "holds_object", "uses_other", "uses_none"]
    imports = [*packages, "mpi4py.MPI", "wave"]
    (tmp_path / "users_of_mpi.py").write_text("\n".join(f"import {name}" for name in imports))
    before = set(sys.modules)
    monkeypatch.syspath_prepend(site)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert imports_of(importlib.import_module("users_of_mpi")) == ("uses_none", "wave")
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in (*packages, "users_of_mpi"):
                del sys.modules[name]
