"""The list of scenarios in docs/reference/scenarios.md is up to date."""

import subprocess
import sys
from pathlib import Path

import pytest

from derail.report.library import MARKER, library, render_list, render_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "scenarios.md"


def test_the_page_is_up_to_date():
    """If this fails: python -m derail.report.library docs/reference/scenarios.md."""
    assert PAGE.read_text() == render_page(PAGE.read_text(), library())


@pytest.mark.parametrize("scenario", library(), ids=lambda scenario: scenario.name)
def test_the_page_lists_each_scenario_in_its_family(scenario):
    """Title and issue are listed with it."""
    _, _, family = PAGE.read_text().partition(f"\n### {scenario.family}\n")

    assert f"| `{scenario.name}` | {scenario.title} | {scenario.issue} |" in family.partition("\n### ")[0]


def test_only_the_part_after_the_marker_is_rewritten(tmp_path):
    """Only the part after the marker is replaced; the hand-written part is kept."""
    page = tmp_path / "scenarios.md"
    page.write_text(f"# By hand\n\n{MARKER}\n\nold and wrong\n")
    subprocess.run([sys.executable, "-m", "derail.report.library", page], check=True, timeout=60)

    before, _, after = page.read_text().partition(MARKER)
    assert before == "# By hand\n\n"
    assert after == PAGE.read_text().partition(MARKER)[2]


def test_a_page_without_the_marker_is_refused():
    """Hand-written text is never overwritten."""
    with pytest.raises(ValueError, match="has no line"):
        render_page("# By hand\n", [])


def test_an_empty_library_is_an_empty_list():
    """It is not an error."""
    assert render_list([]).startswith("0 scenarios;")
