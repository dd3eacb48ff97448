"""The picture of a run in README.md: runs a scenario and draws its journal, ``python docs/picture.py``.

Writes ``run-light.svg`` and ``run-dark.svg`` into docs/images, or into the directory that is given.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from derail.faults.engine import journal
from derail.report.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.report.lanes import Lane, Timeline

SCENARIO = "hang/deaf_to_sigterm"
IMAGES = Path(__file__).resolve().parent / "images"
LIGHT = {
    "page": "#ffffff",
    "text": "#1f2328",
    "faint": "#59636e",
    "line": "#d1d9e0",
    "alive": "#a8c7e8",
    "fault": "#d1242f",
}
DARK = {
    "page": "#0d1117",
    "text": "#f0f6fc",
    "faint": "#9198a1",
    "line": "#3d444d",
    "alive": "#34597f",
    "fault": "#f85149",
}
PHASES = {"starting": 0.35, "running": 0.6, "stopping": 0.8, "killing": 1.0}
"""How strong the bar of the launcher is in each phase."""
WIDTH, LEFT, RIGHT, TOP, LANE, BAR = 880, 84, 236, 48, 48, 16


def run_scenario(scenario: str) -> Timeline:
    """Run a scenario by the command line, and return the timeline of its journal."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [sys.executable, "-c", "from derail.cli import main; main()", "run", scenario, "--output-dir", directory],
            check=True,
            capture_output=True,
            timeout=120,
        )
        return timeline(journal.read(Path(directory, "journal.jsonl")))


def draw(run: Timeline, title: str, colours: dict[str, str]) -> str:
    """Return a timeline as SVG."""
    height = TOP + LANE * len(run.lanes) + 40
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{colours["page"]}"/>',
        label(LEFT, 26, title, colours["text"], weight=600),
        label(WIDTH - 20, 26, "▼ signal from the launcher", colours["faint"], anchor="end", size=11),
        *axis(run, height, colours),
    ]
    for number, lane in enumerate(run.lanes):
        lines += drawn(lane, TOP + LANE * number, run.seconds, colours)
    return "\n".join([*lines, "</svg>"]) + "\n"


def across(at: float, whole: float) -> float:
    """Return the place of a moment on the axis."""
    return round(LEFT + (WIDTH - LEFT - RIGHT) * at / whole, 1)


def axis(run: Timeline, height: int, colours: dict[str, str]) -> Iterator[str]:
    """Yield the lines for whole fifths of a second, with their times."""
    for tick in range(int(run.seconds * 5) + 1):
        x = across(tick / 5, run.seconds)
        yield f'<path d="M{x} {TOP - 6}V{height - 28}" stroke="{colours["line"]}"/>'
        yield label(x, height - 12, f"{tick / 5:g} s", colours["faint"], anchor="middle")


def drawn(lane: Lane, top: int, whole: float, colours: dict[str, str]) -> Iterator[str]:
    """Yield the bar of a lane, its faults, the signals that it got, and how it ended."""
    yield label(LEFT - 12, top + BAR - 3, "launcher" if lane.rank is None else lane.name, colours["text"], anchor="end")
    for band in lane.bands:
        x, end = across(band.begin, whole), across(band.end, whole)
        fill, strength = ("fault", 1.0) if band.kind == "fault" else ("alive", PHASES.get(band.kind, 1.0))
        place, tall = (top + BAR - 5, 5) if band.kind == "fault" else (top, BAR)
        yield (
            f'<rect x="{x}" y="{place}" width="{max(end - x, 3):.1f}" height="{tall}" fill="{colours[fill]}" '
            f'fill-opacity="{strength}"><title>{escape(band.text or "alive")}</title></rect>'
        )
        if band.kind == "fault":
            word = "fault: hang, ignores SIGTERM" if band.text.startswith("hang") else f"fault: {band.text.split()[1]}"
            early = x < WIDTH / 2
            yield label(x, top + BAR + 14, word, colours["fault"], anchor="start" if early else "end")
        elif band.kind in ("running", "stopping"):
            yield label(x + 5, top + BAR - 4, band.kind, colours["text"], size=11)
    for mark in lane.marks:
        if mark.kind == "signal":
            x = across(mark.at, whole)
            yield f'<path d="M{x} {top - 2}l5 -8h-10z" fill="{colours["text"]}"/>'
            yield label(x + 8, top - 3, mark.text.removeprefix("signalled: "), colours["text"], size=11)
    if lane.rank is not None:
        fate = f"{lane.fate.partition(' (')[0]}, {lane.fate.rpartition(', ')[2]}"
        root = ": root cause" if lane.failed else ""
        weight = 600 if lane.failed else 400
        yield label(WIDTH - RIGHT + 14, top + BAR - 3, fate + root, colours["text"], weight=weight)


def label(x: float, y: float, text: str, fill: str, *, anchor: str = "start", weight: int = 400, size: int = 13) -> str:
    """Return one text."""
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}">'
        f"{escape(text)}</text>"
    )


def main(directory: Path = IMAGES) -> None:
    """Run the scenario once, and draw it in light and in dark colours."""
    timeline_of_run = run_scenario(SCENARIO)
    directory.mkdir(parents=True, exist_ok=True)
    for name, colours in (("light", LIGHT), ("dark", DARK)):
        picture = draw(timeline_of_run, f"derail run {SCENARIO}", colours)
        (directory / f"run-{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
