"""The display of ``derail verify-agent`` while scenarios run."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from derail.campaign.campaign import Began, Judged
from derail.cli.tableau import LAST, Tableau
from derail.model.clock import FakeClock
from report.cards import RIGHT, SKIPPED, UNKNOWN, WRONG


def drawn(tableau: Tableau) -> list[str]:
    """Return the table as it would appear on a terminal."""
    console = Console(file=StringIO(), width=100, force_terminal=False)
    console.print(tableau._table())
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_line_for_each_verdict_tells_the_first_reason() -> None:
    """The output without a terminal."""
    stream, clock = StringIO(), FakeClock()
    with Tableau("planted", 12, stream, live=False, clock=clock) as tableau:
        for row in (RIGHT, WRONG, SKIPPED):
            tableau.update(Began(row.scenario))
            clock.advance(1.5)
            tableau.update(Judged(row))
    assert stream.getvalue().splitlines() == [
        "derail:    1.50 s [ 1/12] PASS crash/right",
        "derail:    3.00 s [ 2/12] FAIL crash/wrong: expected root cause rank 1, got rank 0 (and 1 more)",
        "derail:    4.50 s [ 3/12] SKIPPED node/none: it has no nodes",
    ]


def test_the_table_shows_how_far_it_is_what_runs_and_what_went_wrong() -> None:
    """Each has its time."""
    clock = FakeClock()
    tableau = Tableau("planted", 9, StringIO(), live=False, clock=clock)
    tableau.update(Judged(WRONG))
    for _ in range(LAST + 3):
        tableau.update(Judged(RIGHT))
    tableau.update(Judged(UNKNOWN))
    tableau.update(Began("hang/now"))
    clock.advance(7.0)
    lines = drawn(tableau)
    assert lines[0] == "planted · 11 of 9 · 7 s · 9 PASS · 1 FAIL · 1 INCONCLUSIVE"
    assert [line.split()[:2] for line in lines[2:4]] == [["FAIL", "crash/wrong"], ["PASS", "crash/right"]]
    assert [line.split()[:2] for line in lines[-2:]] == [["INCONCLUSIVE", "hang/unknown"], ["hang/now", "7.0"]]


def test_a_live_table_is_taken_away_at_its_end() -> None:
    """The scorecard replaces it; without a terminal no table is left at all."""
    stream = StringIO()
    with Tableau("planted", 1, stream, live=True) as tableau:
        tableau.update(Began("crash/right"))
        tableau.update(Judged(RIGHT))
    assert tableau.rows == [RIGHT]
    assert "derail:" not in stream.getvalue()
