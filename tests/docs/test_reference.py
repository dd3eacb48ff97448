"""The reference pages that are written by hand name everything that there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from derail.cli import main
from derail.faults.model.triggers import KINDS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
SOURCES = [*ROOT.glob("src/derail/**/*.py"), *ROOT.glob("pytest_plugin/pytest_derail/**/*.py")]


def rows(page: str) -> str:
    """Return the rows of all tables of a reference page."""
    return "\n".join(line for line in (REFERENCE / page).read_text().splitlines() if line.startswith("|"))


def test_each_environment_variable_of_derail_is_on_its_page() -> None:
    """A variable that the code names is in a table, and the page names no other."""
    named = {name for path in SOURCES for name in re.findall(r"\bDERAIL_[A-Z_]*[A-Z]\b", path.read_text())}
    settings = {f"DERAIL_{word}" for word in ("TIMEOUT", "GRACE")}  # the plugin puts these names together

    assert set(re.findall(r"\bDERAIL_[A-Z_]*[A-Z]\b", rows("environment.md"))) == named | settings


def test_each_trigger_is_on_its_page_in_both_forms() -> None:
    """As a function of ``derail.when``, and as TOML."""
    python, toml = zip(*(line.split("|")[1:3] for line in rows("triggers.md").splitlines()), strict=True)

    assert [word for word in KINDS if not any(f"when.{word}(" in cell for cell in python)] == []
    assert [word for word in KINDS if not any(re.search(rf"\b{word}\b", cell) for cell in toml)] == []


def test_each_kind_of_record_is_on_the_page_of_the_journal() -> None:
    """Kinds that the engine and the runtime in a rank write; what single faults write is private to them."""
    written = {
        event
        for path in [*ROOT.glob("src/derail/faults/engine/*.py"), ROOT / "src/derail/faults/inrank/runtime.py"]
        for event in re.findall(r"write\(\s*\"([a-z_]+)\"", path.read_text())
    }

    assert {"plan", "started", "start", "end", "finished", "runtime"} <= written | {"plan"}
    page = (REFERENCE / "journal.md").read_text()
    assert [event for event in sorted(written) if f"`{event}`" not in page] == []


def test_each_command_is_on_the_page_of_exit_codes() -> None:
    """In a row or a column."""
    assert [name for name in main.commands if f"`{name}`" not in rows("exit-codes.md")] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/adr/*.md")), ids=lambda page: page.stem)
def test_each_decision_gives_context_decision_and_consequences(page: Path) -> None:
    """In this order; the index lists them all."""
    if page.stem == "index":
        listed = re.findall(r"\]\(([a-z-]+\.md)\)", page.read_text())
        assert sorted([*listed, "index.md"]) == sorted(each.name for each in page.parent.glob("*.md"))
    else:
        sections = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
        assert sections == ["Context", "Decision", "Consequences"]


def test_the_workflow_runs_ci_on_each_python_and_system() -> None:
    """Python 3.11 to 3.14 on Linux and macOS, by the script that is run by hand."""
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["run"]

    assert job["strategy"]["matrix"] == {
        "os": ["ubuntu-latest", "macos-latest"],
        "python": ["3.11", "3.12", "3.13", "3.14"],
    }
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"


def test_the_picture_of_a_run_is_drawn_from_a_journal(tmp_path: Path) -> None:
    """Light and dark, well-formed, with the same lanes and ends as the pictures in docs/images."""
    subprocess.run([sys.executable, ROOT / "docs" / "picture.py", tmp_path], check=True, timeout=120)

    for name in ("run-light.svg", "run-dark.svg"):
        drawn, shown = (texts(directory / name) for directory in (tmp_path, ROOT / "docs" / "images"))
        assert drawn == shown
        assert {"rank 0", "SIGKILL, by itself: root cause", "fault: hang, ignores SIGTERM"} <= drawn


def texts(picture: Path) -> set[str]:
    """Return what is written in a picture, without the times."""
    found = (element.text or "" for element in ET.parse(picture).iter("{http://www.w3.org/2000/svg}text"))
    return {text for text in found if not re.fullmatch(r"[\d.]+ s", text)}


def test_each_decision_is_named_where_the_code_follows_it() -> None:
    """By at least one module, whose text gives the path of a page that exists."""
    named = {name for path in SOURCES for name in re.findall(r"docs/adr/([a-z-]+)\.md", path.read_text())}

    assert named == {page.stem for page in ROOT.glob("docs/adr/*.md")} - {"index"}
