"""The wheel that people install, and that this suite tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

import derail

ROOT = Path(__file__).resolve().parents[2]
IN_CI = "CI" in os.environ  # asked when tests are collected: while they run, it is hidden


def files(directory: Path, within: str) -> set[str]:
    """All files below a directory of the checkout, under the name that they have in a wheel."""
    found = (path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{within}/{path.relative_to(directory)}" for path in found}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist of the checkout, and the wheel that was built from that sdist."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.Path:
    """The wheel, opened."""
    (path,) = built.glob("derail-*.whl")
    return zipfile.Path(path)


def test_the_wheel_holds_both_packages_and_the_scenarios_and_nothing_else(wheel):
    """Nothing that a user needs is missing, and no test, cache or editor file came along."""
    held = {name for name in wheel.root.namelist() if not name.endswith("/") and ".dist-info/" not in name}
    expected = (
        files(ROOT / "src/derail", "derail")
        | files(ROOT / "pytest_plugin/pytest_derail", "pytest_derail")
        | files(ROOT / "scenarios", "derail/scenarios")
    )

    assert held == expected


def test_the_wheel_is_typed_and_licensed(wheel):
    """Type checkers see the annotations, and the licence is in the wheel."""
    names = wheel.root.namelist()

    assert {"derail/py.typed", "derail/faults/__init__.pyi", "pytest_derail/py.typed"} <= {*names}
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_wheel_brings_the_command_and_the_pytest_plugin(wheel):
    """One console script and one pytest plugin."""
    (name,) = [name for name in wheel.root.namelist() if name.endswith("entry_points.txt")]

    assert wheel.root.read(name).decode().split() == [
        "[console_scripts]", "derail", "=", "derail.cli:main", "[pytest11]", "derail", "=", "pytest_derail.plugin",
    ]  # fmt: skip


def test_the_wheel_depends_on_what_the_command_line_needs_and_no_more(wheel):
    """pytest, Hypothesis, Faker and torch come with extras only."""
    (name,) = [name for name in wheel.root.namelist() if name.endswith("/METADATA")]
    told = Parser().parsestr(wheel.root.read(name).decode())
    always = sorted(need.partition(">")[0] for need in told.get_all("Requires-Dist", []) if "extra ==" not in need)

    assert (always, told["Requires-Python"]) == (["click", "jinja2", "msgspec", "psutil", "rich"], ">=3.11")


def test_the_sdist_can_be_tested(built):
    """Tests, docs and scenarios are in the sdist."""
    (path,) = built.glob("derail-*.tar.gz")
    with tarfile.open(path) as sdist:
        folders = {Path(name).parts[1] for name in sdist.getnames() if len(Path(name).parts) > 2}

    assert folders == {"docs", "pytest_plugin", "scenarios", "src", "tests"}


def test_the_installed_package_is_tested_not_the_checkout():
    """What is imported is what was installed; an editable installation is for developing, and CI refuses it."""
    origin = json.loads(metadata.distribution("derail").read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        assert not IN_CI, "CI must test the wheel: pip install '.[test]', without -e"
        pytest.skip("derail is installed in editable mode")

    assert not Path(derail.__file__).is_relative_to(ROOT / "src")
    assert str(ROOT / "src") not in sys.path
