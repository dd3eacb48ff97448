"""Catalogue of faults for people and editors: on the command line, as data, in a page and in a stub.

``python -m derail.report.catalogue docs/reference/faults.md src/derail/faults/__init__.pyi`` rewrites the part of both
files after the marker, and keeps the part before it.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from derail.faults.catalogue.signature import docstring, signature, source
from derail.faults.registry import entries, public_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from inspect import Parameter

    from derail.faults.catalogue.entry import Entry, Param

MARKER = "<!-- The rest is written by: python -m derail.report.catalogue docs/reference/faults.md -->"
STUB_MARKER = "# The rest is written by: python -m derail.report.catalogue src/derail/faults/__init__.pyi"
WIDTH = 100
LINE = 120
"""Columns of the stub, at which ruff breaks lines."""


def render_list(listed: Iterable[Entry]) -> str:
    """Return all faults in a few words each, by family, with the reason if a fault is unavailable on this machine."""
    return "\n".join(_listed(list(listed))) + "\n"


def _listed(listed: list[Entry]) -> Iterator[str]:
    wide = max(len(entry.name) for entry in listed)
    reasons = {entry.name: entry.requires.unavailable() for entry in listed}
    for family, members in groupby(listed, key=lambda entry: entry.family):
        yield f"{family}:"
        for entry in members:
            begin = f"  {entry.name:<{wide}}  {entry.side:<12}  "
            yield from wrap(entry.summary, WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
            if reasons[entry.name]:
                indent = " " * len(begin)
                yield from wrap(
                    f"not here: {reasons[entry.name]}", WIDTH, initial_indent=indent, subsequent_indent=indent
                )
        yield ""
    yield f"{sum(not reason for reason in reasons.values())} of {len(listed)} faults are available on this machine"


def render_entry(entry: Entry) -> str:
    """Return the full description of one fault, and whether it is available on this machine."""
    return "\n".join(_described(entry)) + "\n"


def _described(entry: Entry) -> Iterator[str]:
    reason = entry.requires.unavailable()
    yield from wrap(f"{entry.name}: {entry.summary}", WIDTH)
    yield ""
    yield from _facts({"Family": entry.family, "Acts": entry.side, "On this machine": reason or "available"})
    yield ""
    if entry.params:
        yield "Parameters:"
        yield from _parameters(entry.params)
        yield ""
    facts = {
        "Triggers": ", ".join(entry.acts.triggers),
        "By default": str(entry.acts.default),
        "Repeats": "up to times=n" if entry.acts.repeats else "",
        "Lasts": "for_=seconds, or until the end of the job" if entry.acts.lasts else "",
        "Needs": entry.requires.needs,
        "Verified by": entry.verified,
        "Undone": entry.healed or "never",
    }
    yield from _facts({word: fact for word, fact in facts.items() if fact})
    yield from ("", "Example:", f"  {entry.example}")


def _facts(facts: dict[str, str]) -> Iterator[str]:
    wide = max(len("On this machine"), *map(len, facts)) + 2
    for word, fact in facts.items():
        begin = f"{word + ':':<{wide}}"
        yield from wrap(fact, WIDTH, initial_indent=begin, subsequent_indent=" " * wide, break_on_hyphens=False)


def _parameters(params: tuple[Param, ...]) -> Iterator[str]:
    wide = max(len(param.name) for param in params)
    indent = " " * (wide + 4)
    for param in params:
        default = "required" if param.required else f"default {param.default!r}"
        begin = f"  {param.name:<{wide}}  "
        yield from wrap(f"{param.type}; {default}", WIDTH, initial_indent=begin, subsequent_indent=indent)
        yield from wrap(param.meaning, WIDTH, initial_indent=indent, subsequent_indent=indent)


def as_data(entry: Entry) -> dict[str, object]:
    """Return the full description of one fault, and whether it is available on this machine, as plain data."""
    reason = entry.requires.unavailable()
    return {
        "name": entry.name,
        "family": entry.family,
        "side": entry.side,
        "summary": entry.summary,
        "available": not reason,
        "unavailable": reason,
        "params": [
            {
                "name": param.name,
                "type": param.type,
                "required": param.required,
                "default": list(param.default) if isinstance(param.default, tuple) else param.default,
                "meaning": param.meaning,
            }
            for param in entry.params
        ],
        "triggers": list(entry.acts.triggers),
        "default_when": str(entry.acts.default),
        "repeats": entry.acts.repeats,
        "lasts": entry.acts.lasts,
        "needs": entry.requires.needs,
        "verified": entry.verified,
        "healed": entry.healed,
        "example": entry.example,
    }


def render_page(page: str) -> str:
    """Return the text of docs/reference/faults.md, or of the stub, with the current catalogue in its second half.

    Raises:
        ValueError: if the page has no marker for the beginning of that half.
    """
    for marker, half in ((MARKER, _half), (STUB_MARKER, _stub)):
        written, separator, _ = page.partition(marker)
        if separator:
            return written + "\n".join((marker, "", *half())) + "\n"
    raise ValueError(f"the page has no line {MARKER!r} or {STUB_MARKER!r} to mark the place of the catalogue")


def _half() -> Iterator[str]:
    listed = list(entries().values())
    yield "## The catalogue"
    for family, members in groupby(listed, key=lambda entry: entry.family):
        yield from ("", f"**{family}:** " + ", ".join(f"[{entry.name}](#{entry.name})" for entry in members))
    for entry in listed:
        yield from ("", *_section(entry))


def _section(entry: Entry) -> Iterator[str]:
    yield from (f"### {entry.name}", "", _cell(entry.summary), "")
    if entry.params:
        yield from ("| Parameter | Takes | Default | Meaning |", "|---|---|---|---|")
        for param in entry.params:
            default = "required" if param.required else f"`{param.default!r}`"
            yield f"| `{param.name}` | {_cell(param.type)} | {_cell(default)} | {_cell(param.meaning)} |"
        yield ""
    more = [word for word, can in (("`times`", entry.acts.repeats), ("`for`", entry.acts.lasts)) if can]
    facts = {
        "Acts": entry.side,
        "Triggers": ", ".join(f"`{word}`" for word in entry.acts.triggers),
        "Takes as well": " and ".join(more),
        "Needs": entry.requires.needs,
        "Verified by": entry.verified,
        "Undone": entry.healed or "never",
        "Example": f"`{entry.example}`",
    }
    yield from (f"- {word}: {fact}" for word, fact in facts.items() if fact)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _stub() -> Iterator[str]:
    yield from ("__all__ = [", *(f'    "{name}",' for name in public_names()), "]")
    for entry in entries().values():
        shown = signature(entry)
        yield from ("", f"def {entry.name}(")
        star = ["    *,"]
        for parameter in shown.parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                yield from star
                star = []
            yield from _declared(parameter)
        first, *others = docstring(entry).splitlines()
        yield from (f") -> {shown.return_annotation}:", f'    """{first}')
        yield from (f"    {line}" if line else "" for line in others)
        yield '    """'
    yield from (
        "",
        "class _Functions:",
        '    """What mypy sees in an attribute that holds this package, which it takes for any module."""',
        "",
    )
    yield from (f"    {name} = staticmethod(_here.{name})" for name in ("fail_point", "plan", *entries()))


def _declared(parameter: Parameter) -> Iterator[str]:
    default = "" if parameter.default is parameter.empty else f" = {source(parameter.default)}"
    line = f"    {parameter.name}: {parameter.annotation}{default},"
    if len(line) <= LINE:
        yield line
        return
    begin, words, end = line.rpartition("[")[0], line[line.rindex("[") + 1 : line.rindex("]")], line[line.rindex("]") :]
    yield f"{begin}["
    yield from (f"        {word}," for word in words.split(", "))
    yield f"    {end}"


def main(argv: list[str]) -> None:
    """Rewrite the second half of the named files."""
    for name in argv:
        page = Path(name)
        page.write_text(render_page(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
