"""``derail schema``: the form of TOML files, for editors."""

from __future__ import annotations

import re
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from derail.faults.serialization.table_schema import Schema

KINDS = ("scenario", "plan", "declaration")


@click.command(short_help="Print the JSON Schema of a kind of TOML file.")
@click.argument("kind", type=click.Choice(KINDS))
def schema(*, kind: str) -> None:
    """Print the JSON Schema (draft 7) of scenarios, plans or declarations, from which editors complete such files.

    Name it in the first line of a file, in the form that Taplo and Even Better TOML read: "#:schema scenario.json".
    """
    import json

    click.echo(json.dumps(schema_of(kind), indent=1))


def schema_of(kind: str) -> Schema:
    """Return the JSON Schema of a kind of file, with descriptions of its keys."""
    from derail.agents import custom
    from derail.faults import codec
    from derail.faults.model.plan import Plan
    from derail.scenario import load
    from derail.scenario.model import Expect, LogTail, Scenario

    if kind == "declaration":
        found = custom.schema()
        _described(found["properties"]["report"], custom.Report)
        found = _described(found, custom.Declaration)
    elif kind == "plan":
        found = {**_described(codec.schema(), Plan), "definitions": codec.definitions()}
    else:
        found = load.schema()
        expect = found["properties"]["expect"]
        for tables in expect["properties"]["log_tail"]["anyOf"]:
            _described(tables.get("items", tables), LogTail)
        _described(expect, Expect)
        found = {**_described(found, Plan, Scenario), "definitions": codec.definitions()}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": f"derail {kind}", **found}


def _described(table: Schema, *classes: type[Any]) -> Schema:
    """Give the keys of a table the descriptions that the attributes of classes with the same names have."""
    for each in classes:
        for name, text in _attributes(each).items():
            if name in table.get("properties", {}):
                table["properties"][name] = {**table["properties"][name], "description": text}
    return table


def _attributes(documented: type[Any]) -> dict[str, str]:
    """Return what the docstring of a class says of its attributes."""
    _, _, listed = cleandoc(documented.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
