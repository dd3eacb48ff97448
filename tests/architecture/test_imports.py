"""What imports what, and what importing costs."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import derail
from architecture.import_graph import cycles, import_graph, told

ROOT = Path(__file__).resolve().parents[2]
UNMEASURED = {name: "" for name in os.environ if name.startswith("COVERAGE_PROCESS")}

NEW_MODULES = """
import json, sys
before = set(sys.modules)
import derail
{more}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_modules_of_faults_are_imported_without_the_injectors():
    """``from derail.faults import codec`` asks the package for a fault of that name first; no family is loaded."""
    more = "from derail.faults import codec, registry"
    new = subprocess.run(
        [sys.executable, "-c", NEW_MODULES.format(more=more)],
        env={**os.environ, **UNMEASURED}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = json.loads(new.stdout)

    assert "derail.faults.codec" in modules
    assert not [name for name in modules if name.startswith("derail.faults.injectors.")]


def test_imports_go_down_only():
    """The layers and the prohibitions in pyproject.toml hold."""
    checker = Path(sysconfig.get_path("scripts"), "lint-imports")
    checked = subprocess.run(
        [checker, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_there_is_no_import_cycle():
    """Of no kind: at import, inside of functions, or for type checkers only."""
    graph = import_graph({"derail": ROOT / "src/derail", "pytest_derail": ROOT / "pytest_plugin/pytest_derail"})
    found = cycles(graph)
    print(f"{len(found)} cycles in {sum(map(len, graph.values()))} edges")

    assert not found, "\n\n".join(told(graph, group) for group in found)


def test_a_cycle_through_imports_in_functions_and_for_types_is_found(tmp_path):
    """The three kinds of imports count alike, and what is imported from a package is its module."""
    for name, source in {
        "__init__": "",
        "first": "def late():\n    from planted.rooms import second\n",
        "rooms/__init__": "",
        "rooms/second": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..third import T\n",
        "third": "import planted.first\n",
        "alone": "from planted import first\n",
    }.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)

    assert cycles(import_graph({"planted": tmp_path})) == [["planted.first", "planted.rooms.second", "planted.third"]]


def test_every_part_of_the_package_has_a_layer():
    """A new module at the top of the package must be given its place in the order of the layers."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    names = [name.strip() for layer in layers for name in layer.split("|")]
    placed = {name for name in names if not name.startswith("(")}  # in brackets: not there yet
    parts = {f"derail.{module.name}" for module in pkgutil.iter_modules(derail.__path__)}

    assert placed - {"pytest_derail"} == parts


def test_import_derail_loads_next_to_nothing(run_python):
    """``import derail`` loads the door, and no other module."""
    loaded = json.loads(run_python(NEW_MODULES.format(more=""), env=UNMEASURED).stdout)

    assert set(loaded) - {"__future__"} == {"derail", "derail.platform", "derail.platform.supported"}


def test_the_library_needs_the_standard_library_only(run_python):
    """Asking for every public name imports nothing that is not Python's own or derail's."""
    asked = "for name in derail.__all__: getattr(derail, name)"
    loaded = json.loads(run_python(NEW_MODULES.format(more=asked), env=UNMEASURED).stdout)
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names

    assert foreign == {"derail"}


def test_starting_programs_does_not_load_multiprocessing(run_python):
    """A launcher of programs does not pay for what only functions need."""
    asked = "derail.start_processes; derail.SubprocessContext; derail.DefaultLogsSpecs"
    loaded = json.loads(run_python(NEW_MODULES.format(more=asked), env=UNMEASURED).stdout)
    heavy = {
        "multiprocessing",
        "asyncio",
        "concurrent",
        "psutil",
        "ctypes",
        "xml",
        "http",
        "email",
        "unittest",
    }

    assert {name.partition(".")[0] for name in loaded} & heavy == set()
