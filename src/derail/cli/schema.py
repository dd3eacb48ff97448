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
    """Print the JSON Schema (draft 7) of scenarios, plans or declarations, for completion in editors.

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
        table = custom.schema()
        _described(table["properties"]["report"], custom.Report)
        table = _described(table, custom.Declaration)
    elif kind == "plan":
        table = {**_described(codec.schema(), Plan), "definitions": codec.definitions()}
    else:
        table = load.schema()
        expect = table["properties"]["expect"]
        for tables in expect["properties"]["log_tail"]["anyOf"]:
            _described(tables.get("items", tables), LogTail)
        _described(expect, Expect)
        table = {**_described(table, Plan, Scenario), "definitions": codec.definitions()}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": f"derail {kind}", **table}


def _described(table: Schema, *classes: type[Any]) -> Schema:
    """Add descriptions to the keys of a table, from the documented attributes of classes with the same names."""
    for each in classes:
        for name, text in _attributes(each).items():
            if name in table.get("properties", {}):
                table["properties"][name] = {**table["properties"][name], "description": text}
    return table


def _attributes(documented: type[Any]) -> dict[str, str]:
    """Return the descriptions of the attributes in the docstring of a class."""
    _, _, listed = cleandoc(documented.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
