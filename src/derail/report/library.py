"""Lists of derail's scenarios: on the command line, and in docs/reference/scenarios.md.

``python -m derail.report.library docs/reference/scenarios.md`` rewrites only the last part of that page.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from derail.errors.text import neutral

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from derail.scenario.model import Scenario

MARKER = "<!-- The rest is written by: python -m derail.report.library docs/reference/scenarios.md -->"
WIDTH = 120


def library() -> list[Scenario]:
    """Return all scenarios of derail, by name.

    Raises:
        InputError: if one has an error.
    """
    from derail.scenario.load import load, shipped

    return [load(path) for path in shipped().values()]


def render_list(listed: Iterable[Scenario]) -> str:
    """Return names and titles, by family."""
    return neutral("\n".join(_listed(list(listed))) + "\n")


def as_data(scenario: Scenario) -> dict[str, object]:
    """Return the facts of a scenario in a list, as plain data."""
    return {
        "name": scenario.name,
        "family": scenario.family,
        "title": scenario.title,
        "why": scenario.why,
        "issue": scenario.issue,
        "ranks": scenario.ranks,
        "nodes": scenario.nodes,
        "restarts": scenario.restarts,
        "needs": list(scenario.needs),
        "faults": [fault.name for fault in scenario.faults.faults],
        "path": str(scenario.path),
    }


def _listed(listed: list[Scenario]) -> Iterator[str]:
    wide = max((len(each.name) for each in listed), default=0)
    for family, members in groupby(listed, key=lambda each: each.family):
        yield f"{family}:"
        for each in members:
            begin = f"  {each.name:<{wide}}  "
            yield from wrap(each.title, WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
        yield ""
    yield f"{len(listed)} scenarios; derail run NAME runs one, derail verify-agent AGENT all of them"


def render_page(page: str, listed: Iterable[Scenario]) -> str:
    """Return the text of docs/reference/scenarios.md with the current scenarios.

    Raises:
        ValueError: if the page has no marker for the beginning of that part.
    """
    written, separator, _ = page.partition(MARKER)
    if not separator:
        raise ValueError(f"the page has no line {MARKER!r} to mark the place of the scenarios")
    return written + "\n".join((MARKER, "", *_tables(list(listed)))) + "\n"


def _tables(listed: list[Scenario]) -> Iterator[str]:
    families = {family: list(members) for family, members in groupby(listed, key=lambda each: each.family)}
    yield "## The library"
    yield ""
    named = ", ".join(f"[{name}](#{name})" for name in families)
    yield f"{len(listed)} scenarios in {len(families)} families: {named}."
    for family, members in families.items():
        yield from ("", f"### {family}", "", "| Scenario | Expected | Reported in |", "|---|---|---|")
        yield from (f"| `{each.name}` | {_cell(each.title)} | {each.issue} |" for each in members)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(argv: list[str]) -> None:
    """Rewrite the last part of the named pages."""
    for name in argv:
        page = Path(name)
        page.write_text(render_page(page.read_text(encoding="utf-8"), library()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
