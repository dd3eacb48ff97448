"""Scorecard as plain text: scenarios and promises, then failures, reported root causes, and times."""

from __future__ import annotations

from statistics import median
from textwrap import wrap
from typing import TYPE_CHECKING, get_args

from derail.errors.text import neutral
from derail.report.scorecard import Blame
from derail.report.text import printable
from derail.scenario.recovery import MEASURES, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from derail.report.scorecard import Cell, Row, Scorecard
    from derail.scenario.model import Promise
    from derail.scenario.recovery import Measure

WIDTH = 100  # columns
SLOWEST = 5  # runs with the longest teardowns
CELLS: dict[Cell, str] = {"PASS": "+", "FAIL": "X", "n/a": "-", "INCONCLUSIVE": "?", "SKIPPED": " ", "": "."}
WORDS: dict[Cell, str] = {
    "FAIL": "broken",
    "INCONCLUSIVE": "not proved",
    "PASS": "kept",
    "n/a": "never promised",
}
FEW = 3
"""Number of scenarios up to which words for each are easier to read than a table, or one reason for all of them."""
LEGEND = "+ kept   X broken   - never promised   ? not proved   . not asked"
MEASURED: dict[Measure, str] = {
    "notice": "noticed after the fault",
    "stop": "stopped after the fault",
    "recover": "ran again after the fault",
    "lost-steps": "steps lost",
}
BLAMES: tuple[Blame, ...] = tuple(blame for blame in get_args(Blame) if blame)


def render_scorecard(card: Scorecard) -> str:
    """Return the scorecard, ending with a newline, without colours or control characters from ranks."""
    parts = [_head, _table, _wrong, _skipped, _differs, _blamed, _times, _recovered, _left, _sum]
    sections = ["\n".join(lines) for part in parts if (lines := list(part(card)))]
    return neutral("\n\n".join(sections) + "\n")


def headline(card: Scorecard) -> str:
    """Return agent, machine and date in one line."""
    where = f"{card.machine.system}, Python {card.machine.python}, {card.machine.cores} cores, uid {card.machine.uid}"
    return f"{titled(card)}: {card.date}, {where}, derail {card.derail}"


def titled(card: Scorecard) -> str:
    """Return the agent and its version."""
    return f"{card.agent} {card.version}".strip()


def summary(card: Scorecard) -> str:
    """Return the number of each verdict."""
    counts = ", ".join(f"{count} {kind}" for kind, count in card.counts.items() if count)
    return f"{len(card.rows)} scenario{'' if len(card.rows) == 1 else 's'}: {counts or 'nothing was run'}"


def seconds(value: float | None) -> str:
    """Return a time as text; empty if there is none."""
    return "" if value is None else f"{value:.2f} s"


def _head(card: Scorecard) -> Iterator[str]:
    yield from wrap(f"Scorecard of {headline(card)}", WIDTH)


def _table(card: Scorecard) -> Iterator[str]:
    """Yield a line for each scenario, with a column for each promise, under the promises' vertical names.

    For a few scenarios there are no columns: the names of the promises follow each scenario.
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
    """Yield why rows are not PASS, FAIL first; reasons that several rows share appear once."""
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
    """Yield why a row is not PASS."""
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
    """Yield deviations from promises that the agent never made: how many, and the first case of each promise."""
    for promise in card.asked:
        rows = [row for row in card.rows if row.verdict != "INCONCLUSIVE"]
        different = [(row, each) for row in rows for each in row.findings if each.promise == promise and each.differs]
        if different and not any(each.kept is False for _, each in different):
            row, first = different[0]
            many = len({row.scenario for row, _ in different})
            text = f"never promised, and different: {promise} in {many} scenario{'' if many == 1 else 's'}"
            yield from wrap(f"{text}; {row.scenario}: {printable(str(first))}", WIDTH, subsequent_indent="  ")


def _skipped(card: Scorecard) -> Iterator[str]:
    """Yield each reason once, with its scenarios."""
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
    yield f"{'injected cause':<{wide}}  {'  '.join(f'{blame:>13}' for blame in BLAMES)}"
    for cause, line in matrix.items():
        counts = (f"{len(line[blame]) if blame in line else '.':>13}" for blame in BLAMES)
        yield f"{cause:<{wide}}  {'  '.join(counts)}"
    for row in card.rows:
        if row.blame in ("wrong rank", "none"):
            yield f"  {row.blame}: {row.scenario} reports {printable(row.reported)}"


def _times(card: Scorecard) -> Iterator[str]:
    timed = sorted(((row.teardown_seconds, row) for row in card.rows if row.teardown_seconds is not None), key=_first)
    if timed:
        longest = ", ".join(f"{took:.2f} s {row.scenario}" for took, row in reversed(timed[-SLOWEST:]))
        text = f"teardown: median {median(map(_first, timed)):.2f} s of {len(timed)}; longest {longest}"
        yield from wrap(text, WIDTH, subsequent_indent="  ")


def _recovered(card: Scorecard) -> Iterator[str]:
    """Yield the median and the largest value of each measure of the recovery."""
    for measure in MEASURES:
        if values := card.measured(measure):
            most, row = values[-1]
            middle = shown(measure, median(map(_first, values)))
            yield f"{MEASURED[measure]}: median {middle} of {len(values)}; most {shown(measure, most)} {row.scenario}"


def _first(pair: tuple[float, Row]) -> float:
    return pair[0]


def _left(card: Scorecard) -> Iterator[str]:
    """Yield the leftovers that do not appear among the reasons."""
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
