"""Scorecards of several agents on one page of Markdown: versions, promises, scenarios, broken expectations."""

from __future__ import annotations

import re
from statistics import median
from typing import TYPE_CHECKING

from derail.report.scorecard import PROMISES
from derail.report.scorecard_text import BLAMES, MEASURED
from derail.report.text import printable
from derail.scenario.recovery import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from derail.report.scorecard import Row, Scorecard
    from derail.scenario.model import Finding, Kind
    from derail.scenario.recovery import Measure

LONGEST = 160  # characters of a finding's text
CELLS: dict[Kind, str] = {"PASS": "yes", "FAIL": "**no**", "INCONCLUSIVE": "?", "SKIPPED": ""}


def render_scorecards(cards: Sequence[Scorecard]) -> str:
    """Return a page of Markdown, without a heading, ending with a newline, with the agents in the given order."""
    parts = [*_agents(cards), *_promises(cards), *_blame(cards), *_recovery(cards), *_scenarios(cards)]
    for card in cards:
        parts += _broken(card)
    return "\n".join(parts) + "\n"


def _agents(cards: Sequence[Scorecard]) -> Iterator[str]:
    yield "## Agents"
    yield ""
    yield from _table(
        ["Agent", "Version", "Run", "PASS", "FAIL", "INCONCLUSIVE", "SKIPPED", "Date"],
        [
            [
                f"[{card.agent}](#{card.agent})",
                card.version,
                f"{len(card.rows)} scenarios",
                *(str(card.counts[kind]) for kind in ("PASS", "FAIL", "INCONCLUSIVE", "SKIPPED")),
                card.date.partition("T")[0],
            ]
            for card in cards
        ],
    )
    for where in dict.fromkeys(
        f"{card.machine.system}, Python {card.machine.python}, {card.machine.cores} cores, derail {card.derail}"
        for card in cards
    ):
        yield f"On {where}."
        yield ""


def _promises(cards: Sequence[Scorecard]) -> Iterator[str]:
    yield "## Promises"
    yield ""
    yield "How often each promise was kept, of the times that a scenario asked for it; empty if it was never made."
    yield ""
    counts = {card.agent: card.promise_counts() for card in cards}
    rows = []
    for promise in PROMISES:
        cells = []
        for card in cards:
            kept = counts[card.agent].get(promise)
            asked = 0 if kept is None else kept["PASS"] + kept["FAIL"]
            cells.append(f"{kept['PASS']} of {asked}" if kept and asked else "")
        rows.append([f"`{promise}`", *cells])
    yield from _table(["", *(card.agent for card in cards)], [row for row in rows if any(row[1:])])


def _blame(cards: Sequence[Scorecard]) -> Iterator[str]:
    yield "## Reported root causes"
    yield ""
    counts = {card.agent: {blame: sum(row.blame == blame for row in card.rows) for blame in BLAMES} for card in cards}
    rows = [[blame, *(str(counts[card.agent][blame] or "") for card in cards)] for blame in BLAMES]
    yield from _table(["", *(card.agent for card in cards)], rows)


def _recovery(cards: Sequence[Scorecard]) -> Iterator[str]:
    """Yield the medians of the recovery; nothing for scorecards that have none."""
    rows = [[words, *(_median(card, measure) for card in cards)] for measure, words in MEASURED.items()]
    if any(cell for row in rows for cell in row[1:]):
        yield "## Recovery"
        yield ""
        yield "Median over the scenarios in which a fault made a rank fail, and their number."
        yield ""
        yield from _table(["", *(card.agent for card in cards)], rows)


def _median(card: Scorecard, measure: Measure) -> str:
    values = [value for value, _ in card.measured(measure)]
    return f"{shown(measure, median(values))} of {len(values)}" if values else ""


def _scenarios(cards: Sequence[Scorecard]) -> Iterator[str]:
    yield "## Scenarios"
    yield ""
    yield "Whether the agent met every expectation that it promises; `?` if a fault was not proved to have happened;"
    yield "empty if the scenario was not run: the agent does not support it, or it was left out."
    yield ""
    rows = {card.agent: {row.scenario: row for row in card.rows} for card in cards}
    names = sorted({name for named in rows.values() for name in named})
    yield from _table(
        ["", *(card.agent for card in cards)],
        [
            [name, *(CELLS[rows[card.agent][name].verdict] if name in rows[card.agent] else "" for card in cards)]
            for name in names
        ],
    )


def _broken(card: Scorecard) -> Iterator[str]:
    """Yield an agent's broken expectations, by promise, with their scenarios."""
    yield f"## {card.agent}"
    yield ""
    wrong = [(row, finding) for row in card.rows if row.verdict == "FAIL" for finding in row.broken]
    if not wrong:
        yield "No promise was broken."
        yield ""
        return
    for promise in PROMISES:
        broken = [(row, finding) for row, finding in wrong if finding.promise == promise]
        if broken:
            yield f"**{promise}**"
            yield ""
            yield from (f"- {_described(row, finding)}" for row, finding in broken)
            yield ""


def _described(row: Row, finding: Finding) -> str:
    issue = f" ({row.issue})" if row.issue else ""
    return f"`{row.scenario}`: expected {_short(finding.expected)}, got {_short(finding.got)}{issue}"


def _short(text: str) -> str:
    """Return one line of Markdown without markup."""
    line = printable(" ".join(text.split()))
    cut = line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", cut)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(row) + " |"
    yield ""
