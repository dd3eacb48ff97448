"""Configuration of the documentation site: ``python -m sphinx -W --keep-going docs build/docs``.

Pages are Markdown, sorted into tutorials, how-to guides, reference and explanation. The reference of the API, of the
command line and of each fault's function is made from the code when the site is built.
"""

from __future__ import annotations

import os
import re
import tomllib
from importlib import import_module
from inspect import cleandoc
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from derail.cli import main as command_line
from derail.faults.registry import entries
from derail.report.catalogue import as_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
PROJECT = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Source"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
version = release = PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]
html_theme = "furo"
html_title = f"derail {version}"
html_theme_options = {"source_repository": REPOSITORY, "source_branch": "main", "source_directory": "docs/"}
html_show_copyright = False

myst_heading_anchors = 4

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_use_rtype = False
python_display_short_literal_types = True
python_maximum_signature_line_length = 100

GENERATED = re.compile(r"^<!-- generated: (.+) -->$", re.MULTILINE)
"""The line of a page that is replaced: the function of this file that generates the text, and its arguments."""
TRIGGERS = re.compile(r"[~.\w]*\bStart \| (?:[~.\w]+ \| )*[~.\w]*\bThen(?: \| None)?")
"""The union of all triggers, as a signature spells it."""
SAVED: dict[str, list[str]] = {}
"""Docstrings between ``save_text`` and ``restore_text``, by the name of the object."""
HOMES = ("derail.errors", "derail.logs", "derail.spawn", "derail")
"""Modules that share names with others: a name is documented as part of the first of these that has it."""
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
"""The path in a relative link."""


def prepare(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the generated parts into a page, and have links to files of the repository lead to the repository."""
    makers = {"api": api, "commands": commands, "fault-functions": fault_functions}

    def generated(line: re.Match[str]) -> str:
        name, *arguments = line[1].split()
        return "\n".join(makers[name](*arguments))

    source[0] = LINK.sub(lambda found: f"]({link(docname, found[1])}", GENERATED.sub(generated, source[0]))


def link(docname: str, path: str) -> str:
    """Return a relative link of a page, or the address in the repository of a file that is no page."""
    file = Path(os.path.normpath(DOCS / docname / ".." / path))
    if file.suffix == ".md" and file.is_relative_to(DOCS):
        return path
    kind = "tree" if file.is_dir() else "blob"
    return f"{REPOSITORY}/{kind}/main/{file.relative_to(DOCS.parent)}"


def api(module: str) -> Iterator[str]:
    """Yield the documentation of each name in a module's ``__all__``; what other pages have is linked."""
    elsewhere = {}
    yield from ("```{eval-rst}", f".. py:module:: {module}", "")
    for name in import_module(module).__all__:
        other = documented_elsewhere(module, name)
        if module == "derail.faults" and name in entries():
            continue  # with its family, further down on the page
        if other:
            elsewhere[name] = other
        else:
            yield from (f".. {directive(module, name)}:: {module}.{name}", "")
    yield "```"
    if elsewhere:
        yield from ("", "| Name | Documented as |", "|---|---|")
        yield from (f"| `{module}.{name}` | {other} |" for name, other in elsewhere.items())


def documented_elsewhere(module: str, name: str) -> str:
    """Return a link to the page of another public module that has the same object; empty if there is none."""
    if isinstance(getattr(import_module(module), name), ModuleType):
        return f"the module [`{module}.{name}`]({module}.{name}.md)"
    homes = HOMES[: HOMES.index(module)] if module in HOMES else HOMES
    return next((f"{{py:obj}}`{home}.{name}`" for home in homes if name in import_module(home).__all__), "")


def directive(module: str, name: str) -> str:
    """Return the autodoc directive for a name of a module."""
    value = getattr(import_module(module), name)
    if isinstance(value, type):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if hasattr(value, "__code__") else "autodata"


def fault_functions() -> Iterator[str]:
    """Yield the function of each fault, with its signature, by family."""
    for family, members in groupby(entries().values(), key=lambda entry: entry.family):
        yield from ("", f"### {family}", "", "```{eval-rst}")
        for entry in members:
            yield from (f".. autofunction:: derail.faults.{entry.name}", "")
        yield "```"


def commands(group: click.Group = command_line, words: str = "derail") -> Iterator[str]:
    """Yield each command of a group and of the groups in it: its usage, its help, its options."""
    for name, command in sorted(group.commands.items()):
        whole = f"{words} {name}"
        if isinstance(command, click.Group):
            yield from commands(command, whole)
            continue
        context = click.Context(command, info_name=whole)
        usage = " ".join(command.collect_usage_pieces(context))
        yield from ("", f"## {whole}", "", "```text", f"{whole} {usage}", "```", "")
        for paragraph in cleandoc(command.help or "").split("\n\n"):
            yield from (" ".join(paragraph.split()).replace("``", "`"), "")
        options = [record for param in command.params if (record := param.get_help_record(context))]
        if options:
            yield from ("| Option | |", "|---|---|")
            yield from (f"| `{cell(option)}` | {cell(text)} |" for option, text in options)


def cell(text: str) -> str:
    """Return a text as the cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("{", "\\{")


def describe_fault(_app: Sphinx, _what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Lay out the docstring of a fault's function, from its entry, as fields of reStructuredText."""
    module, _, function = name.rpartition(".")
    if module != "derail.faults" or function not in entries():
        return
    fault = as_data(entries()[function])
    facts = {"Verified": "verified", "Undone": "healed", "Needs": "needs", "Acts": "side"}
    lines[:] = [
        plain(fault["summary"]),
        "",
        *(f":param {param['name']}: {plain(param['type'])}. {plain(param['meaning'])}" for param in fault["params"]),
        *(f":{word}: {plain(fault[key])}" for word, key in facts.items() if fault[key]),
        f":Example: ``faults.{fault['example'].removeprefix('faults.')}``",
    ]


def save_text(_app: Sphinx, what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Save the docstring of a property or constant before napoleon sees it, which takes "Folder: ..." for a type."""
    if what in ("attribute", "data", "property"):
        SAVED[name] = lines[:]


def restore_text(_app: Sphinx, _what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Restore it after napoleon."""
    if name in SAVED:
        lines[:] = SAVED.pop(name)


def skip_modules(_app: Sphinx, _what: str, _name: str, member: object, *_more: object) -> bool | None:
    """Leave out attributes that are modules: their values would show the paths of this machine."""
    return True if isinstance(member, ModuleType) else None


def shorten_signature(
    _app: Sphinx, _what: str, name: str, _object: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Return a signature with the names of its unions: a trigger and a target, where a fault takes them."""
    if signature and name.startswith("derail.faults."):
        signature = TRIGGERS.sub("~derail.when.Trigger", signature).replace(
            "rank: object", "rank: ~derail.faults.Target"
        )
    return signature, returns


def plain(text: str) -> str:
    """Return a text with the characters escaped that mean something in reStructuredText."""
    return re.sub(r"([\\*_`|])", r"\\\1", text)


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", prepare)
    app.connect("autodoc-process-docstring", save_text, priority=100)
    app.connect("autodoc-process-docstring", describe_fault)
    app.connect("autodoc-process-docstring", restore_text, priority=900)
    app.connect("autodoc-skip-member", skip_modules)
    app.connect("autodoc-process-signature", shorten_signature)
