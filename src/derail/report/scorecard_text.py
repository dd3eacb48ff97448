"""A scorecard as plain text: scenarios and promises, then what went wrong, whom the agent blamed, and times."""

from __future__ import annotations

from statistics import median
from textwrap import wrap
from typing import TYPE_CHECKING, get_args

from derail.errors.text import neutral
from derail.report.scorecard import Blame
from derail.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from derail.report.scorecard import Cell, Row, Scorecard
    from derail.scenario.model import Promise

WIDTH = 100
SLOWEST = 5
CELLS: dict[Cell, str] = {"PASS": "+", "FAIL": "X", "n/a": "-", "INCONCLUSIVE": "?", "SKIPPED": " ", "": "."}
WORDS: dict[Cell, str] = {
    "FAIL": "broken",
    "INCONCLUSIVE": "not proved",
    "PASS": "kept",
    "n/a": "never promised",
}
FEW = 3
"""Scenarios up to which a table, or one reason for all of them, is harder to read than words for each."""
LEGEND = "+ kept   X broken   - never promised   ? not proved   . not asked"
BLAMES: tuple[Blame, ...] = tuple(blame for blame in get_args(Blame) if blame)


def render_scorecard(card: Scorecard) -> str:
    """All of it, ending with a newline. No colours, no control characters from ranks."""
    parts = [_head, _table, _wrong, _skipped, _differs, _blamed, _times, _left, _sum]
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
    """A line for each scenario and a column for each promise, with the promises' names from top to bottom.

    For a few scenarios there are no columns: each has the names of the promises below it.
    """
    asked = card.asked
    if len(card.rows) <= FEW:
        for row in card.rows:
            yield f"{row.verdict:<12}  {row.scenario}  {seconds(row.seconds)}".rstrip()
            yield from _promises(row, asked)
        return
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


def _promises(row: Row, asked: Sequence[Promise]) -> Iterator[str]:
    for cell, word in WORDS.items():
        if names := [promise for promise in asked if row.cell(promise) == cell]:
            yield from wrap(f"{word}: {', '.join(names)}", WIDTH, initial_indent=" " * 14, subsequent_indent=" " * 16)


def _wrong(card: Scorecard) -> Iterator[str]:
    """Why rows are not PASS, FAIL first; what is said of several in the same words is said once."""
    for verdict in ("FAIL", "INCONCLUSIVE"):
        together: dict[tuple[str, ...], list[Row]] = {}
        for row in card.rows:
            if row.verdict == verdict:
                together.setdefault(row.reasons, []).append(row)
        for rows in together.values():
            if len(rows) <= FEW:
                for row in rows:
                    yield from told(row)
            else:
                yield f"{verdict}  {len(rows)} scenarios, all for the same reason"
                yield from _reasons(rows[0])
                yield from wrap(
                    ", ".join(row.scenario for row in rows), WIDTH, initial_indent="    ", subsequent_indent="    "
                )


def told(row: Row) -> Iterator[str]:
    """Why a row is not PASS."""
    yield printable(f"{row.verdict}  {row.scenario}: {row.title}")
    yield from _reasons(row)
    if row.issue:
        yield f"    see {printable(row.issue)}"
    if row.evidence:
        yield f"    evidence: {row.evidence}"


def _reasons(row: Row) -> Iterator[str]:
    for reason in row.reasons:
        yield from wrap(f"* {printable(reason)}", WIDTH, initial_indent="  ", subsequent_indent="    ")


def _differs(card: Scorecard) -> Iterator[str]:
    """What the agent never promised and does otherwise: how often, and the first case of each promise."""
    for promise in card.asked:
        rows = [row for row in card.rows if row.verdict != "INCONCLUSIVE"]
        found = [(row, each) for row in rows for each in row.findings if each.promise == promise and each.differs]
        if found and not any(each.kept is False for _, each in found):
            row, first = found[0]
            many = len({row.scenario for row, _ in found})
            text = f"never promised, and different: {promise} in {many} scenario{'' if many == 1 else 's'}"
            yield from wrap(f"{text}; {row.scenario}: {printable(str(first))}", WIDTH, subsequent_indent="  ")


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
    """What was left behind, but for what stands among the reasons already."""
    if not any(row.leftovers for row in card.rows) and any(row.verdict != "SKIPPED" for row in card.rows):
        yield "left behind: nothing"
    left = [
        (row.scenario, what)
        for row in card.rows
        for what in row.leftovers
        if not any(what in reason for reason in row.reasons)
    ]
    for scenario, what in left:
        yield f"left behind in {scenario}: {printable(what)}"


def _sum(card: Scorecard) -> Iterator[str]:
    yield f"{summary(card)} ({card.seconds:.1f} s)"
