"""The shape of the source: names, and what may stand where."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("src/derail/**/*.py"), *ROOT.glob("pytest_plugin/pytest_derail/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/*.py"))

TOP_LEVEL = {
    ".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "LICENSE", "README.md", "docs", "pyproject.toml",
    "pytest_plugin", "scenarios", "src", "tests",
}  # fmt: skip
NAMES_THAT_SAY_NOTHING = {
    "utils",
    "util",
    "common",
    "helpers",
    "helper",
    "base",
    "core",
    "misc",
    "lib",
    "tools",
    "stuff",
}


def names(paths: list[Path]) -> list[str]:
    """Return paths relative to the root of the repository."""
    return [str(path.relative_to(ROOT)) for path in paths]


def test_the_top_level_holds_nothing_else():
    """Tool configuration, benchmarks and examples have their place further down."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    found = {path.partition("/")[0] for path in tracked if path}
    if not found:
        pytest.skip("not a git checkout")

    assert found == TOP_LEVEL


def test_no_module_has_a_name_that_says_nothing():
    """A file is named after the word that one thinks of."""
    vague = [path for path in SOURCES + TESTS if {path.stem, path.parent.name} & NAMES_THAT_SAY_NOTHING]

    assert names(vague) == []


def test_only_the_platform_package_asks_which_platform_this_is():
    """Everything else asks platform/ a question that has one answer per system."""
    askers = []
    for name, path in zip(names(SOURCES), SOURCES, strict=True):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case (
                    ast.Attribute(value=ast.Name(id="sys"), attr="platform")
                    | ast.Attribute(value=ast.Name(id="os"), attr="name")
                ):
                    askers.append(f"{name}:{node.lineno}")
                case ast.ImportFrom(module="sys", names=imported) if "platform" in {one.name for one in imported}:
                    askers.append(f"{name}:{node.lineno}")

    assert [asker for asker in askers if not asker.startswith("src/derail/platform/")] == []


READ_THE_CLOCK = {
    "src/derail/model/clock.py": "the launcher's, the engine's and the plugin's clock",
    "src/derail/faults/inrank/real_time.py": "the clock of the runtime, in a Python that may not have derail",
    "src/derail/faults/inrank/actions/clock.py": "the fault that makes a clock wrong",
    "src/derail/faults/mechanisms/exec_shims/seccomp.py": "a program of its own, before the rank's: nothing is frozen",
}
"""Files that read a clock of ``time``, and why each of them does."""


def test_the_clock_is_read_in_one_place():
    """``time``'s and ``datetime``'s clocks, and the timeouts that ``subprocess`` counts with them, may be frozen."""
    clocks = {
        name + ns
        for name in ("time", "monotonic", "perf_counter", "clock_gettime", "process_time")
        for ns in ("", "_ns")
    }
    readers = set()
    for name, path in zip(names(SOURCES), SOURCES, strict=True):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=ast.Name(id="time" | "time_module" | "_time"), attr=attr) if attr in clocks | {
                    "localtime",
                    "gmtime",
                    "ctime",
                }:
                    readers.add(name)
                case ast.ImportFrom(module="time" | "timeit"):
                    readers.add(name)
                case ast.Attribute(value=ast.Name(id="datetime" | "date" | "dt"), attr="now" | "utcnow" | "today"):
                    readers.add(name)
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="subprocess"), attr="run" | "call" | "check_call" | "check_output"
                    )
                    | ast.Attribute(attr="communicate"),
                    keywords=keywords,
                ) if "timeout" in {keyword.arg for keyword in keywords}:
                    readers.add(name)

    assert readers == set(READ_THE_CLOCK)


def test_nobody_reads_a_directory_bit_by_bit():
    """What ``os.scandir`` opens must be closed, and is closed late if it is not; a list of the entries does as well."""
    callers = [
        f"{name}:{node.lineno}"
        for name, path in zip(names(SOURCES + TESTS), SOURCES + TESTS, strict=True)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
        and "scandir" in (getattr(node, "attr", ""), getattr(node, "id", ""))
    ]

    assert callers == []


def test_modules_and_tests_need_docstrings():
    """Ruff's rules on missing docstrings hold in the package (D1) and, for modules, classes and tests, in the tests."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    rules = {"D100", "D101", "D103"}

    assert lint["select"] == ["ALL"]
    assert rules.isdisjoint(lint["ignore"])
    assert rules.isdisjoint(lint["per-file-ignores"]["tests/**"])


def test_the_calls_that_belong_in_one_place_are_banned():
    """Ruff refuses group signals, reaping, wall-clock time and sleeping wherever no reason is given."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    banned = configuration["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]

    assert set(banned) >= {"os.killpg", "os.waitpid", "time.time", "time.sleep"}


def test_each_exception_from_a_lint_rule_gives_its_reason():
    """A ``noqa`` or ``type: ignore`` in the package names its rule."""
    bare = [
        f"{name}:{number}"
        for name, path in zip(names(SOURCES), SOURCES, strict=True)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.rstrip().endswith(("# noqa", "# type: ignore"))
    ]

    assert bare == []


def test_no_folder_of_tests_is_a_package():
    """tests/platform must not hide Python's own platform module."""
    assert names([path for path in TESTS if path.name == "__init__.py"]) == []
