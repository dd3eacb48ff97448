"""The catalogue in docs/reference/faults.md is up to date; the stub is tested in tests/faults/test_stub.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from derail.faults.registry import entries
from derail.report.catalogue import MARKER, render_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "faults.md"


def test_the_page_is_up_to_date():
    """If this fails: python -m derail.report.catalogue docs/reference/faults.md."""
    assert PAGE.read_text() == render_page(PAGE.read_text())


@pytest.mark.parametrize("name", entries())
def test_the_page_describes_each_fault_in_full(name):
    """Each section has the fault's parameters, proof and example."""
    known = entries()[name]
    _, _, section = PAGE.read_text().partition(f"\n### {name}\n")
    section = section.partition("\n### ")[0]

    said = [
        known.verified,
        known.example,
        known.healed,
        known.requires.needs,
        *(f"`{param.name}`" for param in known.params),
    ]
    assert [text for text in said if text not in section] == []


def test_the_page_has_no_other_fault():
    """A fault that was removed from the catalogue is removed from the page."""
    told = [line.removeprefix("### ") for line in PAGE.read_text().splitlines() if line.startswith("### ")]

    assert told == list(entries())


def test_only_the_part_after_the_marker_is_rewritten(tmp_path):
    """Only the part after the marker is replaced; the hand-written part is kept."""
    page = tmp_path / "faults.md"
    page.write_text(f"# By hand\n\n{MARKER}\n\nold and wrong\n")
    subprocess.run([sys.executable, "-m", "derail.report.catalogue", page], check=True, timeout=60)

    before, _, after = page.read_text().partition(MARKER)
    assert before == "# By hand\n\n"
    assert after == PAGE.read_text().partition(MARKER)[2]


def test_a_page_without_the_marker_is_refused():
    """Hand-written text is never overwritten."""
    with pytest.raises(ValueError, match="has no line"):
        render_page("# By hand\n")
