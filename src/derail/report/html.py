"""Scorecard as one self-contained HTML page, readable without scripts, on a phone and on paper."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from derail.errors.text import neutral
from derail.report.scorecard_text import BLAMES, MEASURED, seconds, titled
from derail.report.text import printable
from derail.report.timeline_text import events
from derail.scenario.recovery import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.report.lanes import Band, Timeline
    from derail.report.scorecard import Cell, Row, Scorecard
    from derail.scenario.model import Promise

PAGE = Path(__file__).parent / "page"
SIGNS: dict[Cell, str] = {"PASS": "+", "FAIL": "✗", "n/a": "-", "INCONCLUSIVE": "?", "SKIPPED": "", "": ""}
TICKS = 8  # maximum ticks of a time axis
LONGEST_BARS = 20  # runs in the chart of teardown times


def render_html(card: Scorecard) -> str:
    """Return the page. All text of ranks, scenarios and agents is escaped, and has no control characters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    style = style.replace("DARK", (PAGE / "dark.css").read_text(encoding="utf-8").strip())
    page = environment.get_template("scorecard.html").render(
        card=card,
        blames=BLAMES,
        measures=MEASURED,
        style=style,
        script=(PAGE / "page.js").read_text(encoding="utf-8"),
    )
    return neutral(page).encode("utf-8", "replace").decode()  # a file name may have characters that UTF-8 lacks


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.3f}%"


def _part(part: float, whole: float) -> str:
    return f"{part / whole if whole else 0:.4f}"


def _clock(value: float | None) -> str:
    """Return a time as text, with more decimal places if it is short."""
    return "" if value is None else f"{value:.3f} s" if 0 < value < 1 else seconds(value)


def _ticks(whole: float) -> list[float]:
    """Return up to ``TICKS`` round times along the axis."""
    step = next(
        (step for power in range(-6, 7) for step in (10**power, 2 * 10**power, 5 * 10**power) if whole / step <= TICKS),
        whole or 1.0,
    )
    return [count * step for count in range(int(whole / step) + 1) if count * step <= 0.97 * whole]


def _tick(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") + " s"


def _anchor(scenario: str) -> str:
    return "run-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", scenario)


def _word(kind: str) -> str:
    """Return the CSS class of a verdict or a cell."""
    return {"n/a": "never"}.get(kind, kind.lower())


def _cell_text(row: Row, promise: Promise) -> str:
    """Return the result of a promise for a tooltip."""
    texts = [str(finding) for finding in row.findings if finding.promise == promise and finding.kept is not True]
    return "; ".join(texts) or {"PASS": "kept", "": "not asked for"}.get(row.cell(promise), row.cell(promise))


def _band_text(band: Band) -> str:
    label = band.text or "lives"
    result = f" ({band.result.replace('_', ' ')})" if band.result else ""
    return f"{label}{result}, {band.begin:.3f} to {band.end:.3f} s"


def _address(issue: str) -> str:
    """Return the URL of an issue, which is a URL or ``owner/name#123``; empty for any other text."""
    if match := re.fullmatch(r"([\w.-]+/[\w.-]+)#(\d+)", issue):
        return f"https://github.com/{match[1]}/issues/{match[2]}"
    return issue if issue.startswith(("https://", "http://")) else ""


def _timed(card: Scorecard) -> list[Row]:
    """Return the runs with the longest teardowns."""
    timed = [row for row in card.rows if row.teardown_seconds is not None]
    return sorted(timed, key=lambda row: row.teardown_seconds or 0.0, reverse=True)[:LONGEST_BARS]


def _has_mark(timeline: Timeline, kind: str) -> bool:
    return any(mark.kind == kind for lane in timeline.lanes for mark in lane.marks)


FILTERS: dict[str, Callable[..., object]] = {
    "percent": _percent,
    "part": _part,
    "clock": _clock,
    "ticks": _ticks,
    "tick": _tick,
    "anchor": _anchor,
    "word": _word,
    "sign": lambda cell: SIGNS[cell],
    "short": lambda scenario: scenario.rpartition("/")[2],
    "cell_text": _cell_text,
    "band_text": _band_text,
    "kept_word": lambda kept: {True: "pass", False: "fail", None: "never"}[kept],
    "kept_sign": lambda kept: {True: "+", False: "✗", None: "-"}[kept],
    "timed": _timed,
    "median": lambda values: median(value for value, _ in values),
    "measure": lambda value, name: shown(name, value),
    "address": _address,
    "titled": titled,
    "has_mark": _has_mark,
    "events": lambda timeline: "\n".join(events(timeline)),
    "printed": lambda text: "\n".join(map(printable, text.split("\n"))),
}
