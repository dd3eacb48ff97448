"""A scorecard as plain text: scenarios and promises, then what went wrong, whom the agent blamed, and times."""

from __future__ import annotations

from statistics import median
from textwrap import wrap
from typing import TYPE_CHECKING, get_args

from derail.errors.text import neutral
from derail.report.scorecard import Blame
from derail.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.report.scorecard import Cell, Row, Scorecard

WIDTH = 100
SLOWEST = 5
CELLS: dict[Cell, str] = {"PASS": "+", "FAIL": "X", "n/a": "-", "INCONCLUSIVE": "?", "SKIPPED": " ", "": "."}
LEGEND = "+ kept   X broken   - never promised   ? not proved   . not asked"
BLAMES: tuple[Blame, ...] = tuple(blame for blame in get_args(Blame) if blame)


def render_scorecard(card: Scorecard) -> str:
    """All of it, ending with a newline. No colours, no control characters from ranks."""
    parts = [_head, _table, _wrong, _skipped, _blamed, _times, _left, _sum]
    sections = ["\n".join(lines) for part in parts if (lines := list(part(card)))]
    return neutral("\n\n".join(sections) + "\n")


def headline(card: Scorecard) -> str:
    """Which agent, where and when, in one line."""
    where = f"{card.machine.system}, Python {card.machine.python}, {card.machine.cores} cores, uid {card.machine.uid}"
    return f"{titled(card)}: {card.date}, {where}, derail {card.derail}"


def titled(card: Scorecard) -> str:
    """The agent and its version."""
    return f"{card.agent} {card.version}".strip()


def summary(card: Scorecard) -> str:
    """The verdicts, counted."""
    told = ", ".join(f"{count} {kind}" for kind, count in card.counts.items() if count)
    return f"{len(card.rows)} scenario{'' if len(card.rows) == 1 else 's'}: {told or 'nothing was run'}"


def seconds(value: float | None) -> str:
    """A time for people; empty if there is none."""
    return "" if value is None else f"{value:.2f} s"


def _head(card: Scorecard) -> Iterator[str]:
    yield from wrap(f"Scorecard of {headline(card)}", WIDTH)


def _table(card: Scorecard) -> Iterator[str]:
    """A line for each scenario and a column for each promise, with the promises' names from top to bottom."""
    asked = card.asked
    wide = max((len(row.scenario) for row in card.rows), default=0)
    tall = max(map(len, asked), default=0)
    for line in range(tall):
        letters = " ".join(name.rjust(tall)[line] for name in asked)
        yield f"{'':<14}{'':<{wide}}  {letters}".rstrip()
    for row in card.rows:
        cells = " ".join(CELLS[row.cell(promise)] for promise in asked)
        yield f"{row.verdict:<12}  {row.scenario:<{wide}}  {cells}  {seconds(row.seconds):>8}".rstrip()
    if asked:
        yield f"{'':<14}{LEGEND}"


def _wrong(card: Scorecard) -> Iterator[str]:
    for row in card.rows:
        if row.verdict in ("FAIL", "INCONCLUSIVE"):
            yield from told(row)


def told(row: Row) -> Iterator[str]:
    """Why a row is not PASS."""
    yield printable(f"{row.verdict}  {row.scenario}: {row.title}")
    for reason in row.reasons:
        yield from wrap(f"* {printable(reason)}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    if row.issue:
        yield f"    see {printable(row.issue)}"
    if row.evidence:
        yield f"    evidence: {row.evidence}"


def _skipped(card: Scorecard) -> Iterator[str]:
    """Each reason once, with the scenarios that it holds for."""
    reasons: dict[str, list[str]] = {}
    for row in card.rows:
        if row.verdict == "SKIPPED":
            reasons.setdefault("; ".join(row.reasons), []).append(row.scenario)
    for reason, names in reasons.items():
        yield from wrap(f"SKIPPED  {printable(reason)}", WIDTH, subsequent_indent="  ")
        yield from wrap(", ".join(names), WIDTH, initial_indent="    ", subsequent_indent="    ")


def _blamed(card: Scorecard) -> Iterator[str]:
    matrix = card.attribution()
    if not matrix:
        return
    wide = max(len("injected cause"), *map(len, matrix))
    yield f"{'injected cause':<{wide}}  {'  '.join(f'{blame:>11}' for blame in BLAMES)}"
    for cause, line in matrix.items():
        counts = (f"{len(line[blame]) if blame in line else '.':>11}" for blame in BLAMES)
        yield f"{cause:<{wide}}  {'  '.join(counts)}"
    for row in card.rows:
        if row.blame in ("wrong rank", "nobody"):
            yield f"  {row.blame}: {row.scenario} reports {printable(row.reported)}"


def _times(card: Scorecard) -> Iterator[str]:
    timed = sorted(((row.teardown_seconds, row) for row in card.rows if row.teardown_seconds is not None), key=_first)
    if timed:
        longest = ", ".join(f"{took:.2f} s {row.scenario}" for took, row in reversed(timed[-SLOWEST:]))
        text = f"teardown: median {median(map(_first, timed)):.2f} s of {len(timed)}; longest {longest}"
        yield from wrap(text, WIDTH, subsequent_indent="  ")


def _first(pair: tuple[float, Row]) -> float:
    return pair[0]


def _left(card: Scorecard) -> Iterator[str]:
    left = [(row.scenario, what) for row in card.rows for what in row.leftovers]
    if not left and any(row.verdict != "SKIPPED" for row in card.rows):
        yield "left behind: nothing"
    for scenario, what in left:
        yield f"left behind in {scenario}: {printable(what)}"


def _sum(card: Scorecard) -> Iterator[str]:
    yield f"{summary(card)} ({card.seconds:.1f} s)"
