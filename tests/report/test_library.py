"""docs/reference/scenarios.md and the library say the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from derail.report.library import MARKER, library, render_list, render_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "scenarios.md"


def test_the_page_is_as_the_scenarios_write_it():
    """If this fails: python -m derail.report.library docs/reference/scenarios.md."""
    assert PAGE.read_text() == render_page(PAGE.read_text(), library())


@pytest.mark.parametrize("scenario", library(), ids=lambda scenario: scenario.name)
def test_each_scenario_stands_on_the_page_in_its_family(scenario):
    """With its title, and where it was met."""
    _, _, family = PAGE.read_text().partition(f"\n### {scenario.family}\n")

    assert f"| `{scenario.name}` | {scenario.title} | {scenario.issue} |" in family.partition("\n### ")[0]


def test_the_page_is_written_anew_from_what_stands_before_the_marker(tmp_path):
    """Whatever was wrong behind it is gone; what people wrote is not touched."""
    page = tmp_path / "scenarios.md"
    page.write_text(f"# By hand\n\n{MARKER}\n\nold and wrong\n")
    subprocess.run([sys.executable, "-m", "derail.report.library", page], check=True, timeout=60)

    before, _, after = page.read_text().partition(MARKER)
    assert before == "# By hand\n\n"
    assert after == PAGE.read_text().partition(MARKER)[2]


def test_a_page_without_the_marker_is_refused():
    """Nothing that people wrote is overwritten."""
    with pytest.raises(ValueError, match="has no line"):
        render_page("# By hand\n", [])


def test_an_empty_library_is_a_list_of_nothing():
    """And no mistake."""
    assert render_list([]).startswith("0 scenarios;")
