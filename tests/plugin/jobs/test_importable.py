"""Functions of test modules reach their ranks, however pytest imported the module."""

from __future__ import annotations

import functools
import pickle
import sys
from typing import TYPE_CHECKING

import pytest

from program_files import program_text
from pytest_derail.jobs.importable import RankFunction, check_importable, import_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest_plugins = ["pytester"]

MODULE = program_text("suites/jobs/own_functions")


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
def test_ranks_import_the_module_that_pytest_imported(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Each of pytest's import modes works: alone, in a package with relative imports, in folders without packages."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    flat = pytester.mkdir("flat")
    (flat / "test_flat.py").write_text(MODULE)
    package = pytester.mkpydir("packed")
    (package / "inner").mkdir()
    (package / "inner" / "__init__.py").touch()
    (package / "inner" / "values.py").write_text("ANSWER = 42\n")
    (package / "inner" / "test_packed.py").write_text("from .values import ANSWER\n" + MODULE)
    if mode == "importlib":  # the same name again; only this mode allows it
        other = pytester.mkdir("other")
        (other / "test_flat.py").write_text("import json\n" + MODULE)
    options = ("-p", "no:cacheprovider", "-p", "pytest_derail.plugin", f"--import-mode={mode}")
    result = pytester.runpytest_subprocess(*options, timeout=120)
    result.assert_outcomes(passed=6 if mode == "importlib" else 4)


def test_a_nested_function_is_refused_with_a_remedy() -> None:
    """Nothing is started before."""

    def inside() -> None:
        pass

    for function in (inside, lambda: None):
        with pytest.raises(TypeError, match="define it at the top level of a module"):
            check_importable(function)
    check_importable(functools.partial(print, 1))


def test_lines_are_written_when_they_end(run_python: Callable[..., object]) -> None:
    """Without that, a rank's stdout file would be block-buffered."""
    done = run_python(
        "import os, sys\n"
        "from pytest_derail.jobs.importable import RankFunction\n"
        "def leave():\n    print('said')\n    os._exit(0)\n"
        "RankFunction(leave)()",
        env={"PYTHONUNBUFFERED": ""},
    )
    assert done.stdout == "said\n"  # type: ignore[attr-defined]


def test_a_rank_function_looks_like_the_function() -> None:
    """Messages and names of jobs use its name."""
    wrapped = RankFunction(check_importable)
    assert (wrapped.__name__, wrapped.__doc__) == (check_importable.__name__, check_importable.__doc__)
    assert repr(wrapped) == "<rank function check_importable>"


def test_it_can_be_pickled_again() -> None:
    """The rank may pass it to another process."""
    again = pickle.loads(pickle.dumps(RankFunction(check_importable)))
    assert again.run is check_importable
    assert pickle.loads(pickle.dumps(again)).run is check_importable


def test_a_file_wins_over_another_module_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of sys.path does not matter."""
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same_name.py").write_text(f"WHERE = {folder!r}\n")
    monkeypatch.syspath_prepend(tmp_path / "first")
    monkeypatch.delitem(sys.modules, "same_name", raising=False)
    module = import_from("same_name", tmp_path / "second" / "same_name.py")
    assert (module.WHERE, sys.modules["same_name"]) == ("second", module)
    assert import_from("same_name", tmp_path / "second" / "same_name.py") is module
    monkeypatch.delitem(sys.modules, "same_name")


def test_a_module_that_fails_is_not_left_half_imported(tmp_path: Path) -> None:
    """Its packages are removed as well."""
    (tmp_path / "half_way.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        import_from("some_folder.half_way", tmp_path / "half_way.py")
    assert "some_folder.half_way" not in sys.modules
    sys.modules.pop("some_folder", None)
