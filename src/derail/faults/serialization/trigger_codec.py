"""Reader of triggers in TOML and JSON.

A trigger is a word (``"start"``), or a table whose first key names the trigger (``{line = "step 3", hit = 2}``).
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from derail.faults.model.occurrences import Hits
from derail.faults.model.triggers import KINDS, Trigger, wrong
from derail.faults.serialization.table_reader import Fields
from derail.faults.serialization.table_schema import TableSchema
from derail.model.exit import signal_name, signal_number
from derail.model.input_error import not_known

if TYPE_CHECKING:
    from derail.faults.serialization.table_schema import Schema

REFERENCE = {"$ref": "#/definitions/trigger"}
EITHER = {"type": ["integer", "string"]}
WORDS = "A trigger that takes no value."


def from_data(data: object, where: str, problems: list[str]) -> Trigger | None:
    """Read a trigger strictly, or return None after adding its problems to ``problems`` under the path ``where``."""
    before = len(problems)
    table = Fields({data: True} if isinstance(data, str) else data, where, problems)
    kind = next((key for key in table.table if key in KINDS), None)
    if kind is None:
        if table.table:
            table.note("", not_known(next(iter(table.table)), KINDS, "trigger"))
        elif len(problems) == before:
            table.note("", f"empty: expected a trigger, one of {', '.join(KINDS)}")
        return None
    given = _given(table, kind)
    table.finish()
    if len(problems) > before:
        return None
    trigger = KINDS[kind](**given)
    for field, what in wrong(trigger):
        table.note(kind if field == _first(kind) else field, what)
    return None if len(problems) > before else trigger


def schema() -> Schema:
    """Return the JSON Schema of a trigger, which refers to itself as ``#/definitions/trigger``."""
    words = [kind for kind in KINDS if _first(kind) is None]
    return {"anyOf": [{"enum": words, "description": WORDS}, *(_schema_of(kind) for kind in KINDS)]}


def _schema_of(kind: str) -> Schema:
    table = TableSchema()
    table.need(kind)
    _given(table, kind)
    table.finish()
    return {**table.schema(), "description": " ".join((KINDS[kind].__doc__ or "").partition("\n\n")[0].split())}


def _given(table: Fields, kind: str) -> dict[str, Any]:
    """Return the fields of a trigger in the table, with types checked and values not yet checked."""
    first = _first(kind)
    given: dict[str, Any] = {}
    if first is None:
        table.custom(kind, lambda value: _no_value(kind, value), None, shape={"enum": [True]})
    for field in fields(KINDS[kind]):
        key = kind if field.name == first else field.name
        given[field.name] = _read(table, key, field.name, None if field.default is MISSING else field.default)
    return given


def _no_value(kind: str, value: object) -> None:
    if value is not True:
        raise ValueError(f"takes no value. Write when = {kind!r}")


def _read(table: Fields, key: str, name: str, default: Any) -> Any:
    """Read one field of a trigger by its name, noting problems."""
    if key != name and not table.has(key):
        return default
    match name:
        case "seconds":
            return table.seconds(key, 0.0)
        case "p":
            return table.custom(key, _read_number, 0.0, shape={"type": "number"})
        case "rank" | "n" | "first":
            return table.whole(key, default)
        case "hit":
            return table.custom(key, lambda value: Hits.read(_number_or_text(value)).value, default, shape=EITHER)
        case "signal":
            read = lambda value: signal_name(signal_number(_number_or_text(value)))  # noqa: E731
            return table.custom(key, read, default, shape=EITHER)
        case "of":
            return table.custom(
                key, lambda value: from_data(value, table.path(key), table.problems), default, shape=REFERENCE
            )
        case "triggers" | "steps":
            return table.custom(
                key, lambda value: _read_list(value, table, key), (), shape={"type": "array", "items": REFERENCE}
            )
        case "ranks":
            ranks = table.ranks(key)
            return None if ranks is None else tuple(sorted(ranks))
        case _:
            return table.text(key, default)


def _number_or_text(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"expected a number or a text, got {value!r}")  # noqa: TRY004 - noted, not raised
    return value


def _read_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number from 0 to 1, got {value!r}")  # noqa: TRY004 - noted, not raised
    return float(value)


def _read_list(value: object, table: Fields, key: str) -> tuple[Trigger, ...]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list of triggers, got {value!r}")  # noqa: TRY004 - noted, not raised
    read = [from_data(item, f"{table.path(key)}[{index}]", table.problems) for index, item in enumerate(value)]
    return tuple(trigger for trigger in read if trigger is not None)


def _first(kind: str) -> str | None:
    """Return the field that is the value of the trigger's own word."""
    return next((field.name for field in fields(KINDS[kind])), None)
