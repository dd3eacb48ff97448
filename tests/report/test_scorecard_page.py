"""Several scorecards on one page of Markdown."""

from __future__ import annotations

from dataclasses import replace

from derail.report.scorecard_page import render_scorecards
from report.cards import BLAMED, CARD, FAST, HOSTILE, RIGHT, SKIPPED, SLOW, WRONG

OTHER = replace(CARD, agent="other", version="", rows=(RIGHT, replace(SKIPPED, scenario="crash/wrong")))
PAGE = render_scorecards([CARD, OTHER])


def lines(heading):
    """Return the lines of a section."""
    _, _, rest = PAGE.partition(f"\n## {heading}\n")
    return [line for line in rest.partition("\n## ")[0].splitlines() if line]


def test_verdicts_are_counted_for_each_agent():
    """They appear side by side, with version and date."""
    assert PAGE.startswith("## Agents\n")
    assert [line for line in PAGE.splitlines() if line.startswith("| [")] == [
        "| [planted](#planted) | 1.2 | 4 scenarios | 1 | 1 | 1 | 1 | 2026-01-02 |",
        "| [other](#other) |  | 2 scenarios | 1 | 0 | 0 | 1 | 2026-01-02 |",
    ]


def test_promises_are_counted_when_asked_for():
    """Promises that were never made, or not proved, do not count."""
    assert lines("Promises")[1:] == [
        "|  | planted | other |",
        "| --- | --- | --- |",
        "| `ends` | 2 of 2 | 1 of 1 |",
        "| `root_cause` | 1 of 2 | 1 of 1 |",
    ]


def test_scenarios_of_all_agents_are_side_by_side():
    """A skipped or missing scenario has an empty cell."""
    assert lines("Scenarios")[-4:] == [
        "| crash/right | yes | yes |",
        "| crash/wrong | **no** |  |",
        "| hang/unknown | ? |  |",
        "| node/none |  |  |",
    ]


def test_broken_expectations_are_listed_by_promise():
    """An agent that broke nothing has one line."""
    assert lines("planted") == [
        "**root_cause**",
        "- `crash/wrong`: expected root cause rank 1, got rank 0 (https://example.org/1)",
    ]
    assert lines("other") == ["No promise was broken."]


def test_output_of_ranks_is_plain_text():
    """There are no tags, tables or control characters, and long texts are cut."""
    told = replace(WRONG, findings=(replace(BLAMED, got=HOSTILE + "|" + "x" * 1000),))
    page = render_scorecards([replace(CARD, rows=(told,))])

    said = next(line for line in page.splitlines() if "crash/wrong`:" in line)
    assert ("<script>" in said, "\x1b" in page, "\\|" in said, len(said) < 400) == (False, False, True, True)


def test_medians_of_the_recovery_are_side_by_side():
    """An agent without a value has an empty cell; without any value there is no such part."""
    measured = replace(CARD, rows=(replace(RIGHT, recovery=FAST), replace(WRONG, recovery=SLOW)))
    page = render_scorecards([measured, OTHER])

    assert [line for line in page.splitlines() if " of 2 |" in line and "after" in line] == [
        "| noticed after the fault | 0.375 s of 2 |  |",
        "| stopped after the fault | 1.25 s of 2 |  |",
        "| ran again after the fault | 3.50 s of 2 |  |",
    ]
    assert "## Recovery" not in PAGE
