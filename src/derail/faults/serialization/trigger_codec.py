"""Reader of triggers in TOML and JSON.

A trigger is a word (``"start"``), or a table whose first key names the trigger (``{line = "step 3", hit = 2}``).
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from derail.faults.model.occurrences import Hits
from derail.faults.model.triggers import KINDS, Trigger, wrong
from derail.faults.serialization.table_reader import Fields
from derail.model.exit import signal_name, signal_number
from derail.model.input_error import not_known


def from_data(data: object, where: str, problems: list[str]) -> Trigger | None:
    """Read a trigger strictly. What is wrong is added to ``problems``, under the path ``where``; then None."""
    before = len(problems)
    table = Fields({data: True} if isinstance(data, str) else data, where, problems)
    kind = next((key for key in table.table if key in KINDS), None)
    if kind is None:
        if table.table:
            table.note("", not_known(next(iter(table.table)), KINDS, "trigger"))
        elif len(problems) == before:
            table.note("", f"is empty; say when: {', '.join(KINDS)}")
        return None
    given = _given(table, kind)
    table.finish()
    if len(problems) > before:
        return None
    trigger = KINDS[kind](**given)
    for field, what in wrong(trigger):
        table.note(kind if field == _first(kind) else field, what)
    return None if len(problems) > before else trigger


def _given(table: Fields, kind: str) -> dict[str, Any]:
    """What the table says of the fields of a trigger, types checked, values not yet."""
    first = _first(kind)
    given: dict[str, Any] = {}
    if first is None and table.raw(kind) is not True:
        table.note(kind, f"takes no value; write when = {kind!r}")
    for field in fields(KINDS[kind]):
        key = kind if field.name == first else field.name
        given[field.name] = _read(table, key, field.name, None if field.default is MISSING else field.default)
    return given


def _read(table: Fields, key: str, name: str, default: Any) -> Any:
    """One field of a trigger, by its name; what is wrong is noted."""
    if key != name and not table.has(key):
        return default
    match name:
        case "seconds":
            return table.seconds(key, 0.0)
        case "p":
            return _number(table, key)
        case "rank" | "n" | "first":
            return table.whole(key, default)
        case "hit":
            return _noted(table, key, default, lambda value: Hits.read(value).value)
        case "signal":
            return _noted(table, key, default, lambda value: signal_name(signal_number(value)))
        case "of":
            return from_data(table.raw(key), table.path(key), table.problems) if table.has(key) else default
        case "triggers" | "steps":
            return _list(table, key)
        case "ranks":
            return _ranks(table, key)
        case _:
            return table.text(key, default)


def _noted(table: Fields, key: str, default: Any, read: Any) -> Any:
    value = table.raw(key)
    if not table.has(key):
        return default
    if isinstance(value, bool) or not isinstance(value, int | str):
        table.note(key, f"expected a number or a text, got {value!r}")
        return default
    try:
        return read(value)
    except ValueError as error:
        table.note(key, str(error))
        return default


def _number(table: Fields, key: str) -> float:
    value = table.raw(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        table.note(key, f"expected a number from 0 to 1, got {value!r}")
        return 0.0
    return float(value)


def _list(table: Fields, key: str) -> tuple[Trigger, ...]:
    value = table.raw(key)
    if not isinstance(value, list):
        table.note(key, f"expected a list of triggers, got {value!r}")
        return ()
    read = [from_data(item, f"{table.path(key)}[{index}]", table.problems) for index, item in enumerate(value)]
    return tuple(trigger for trigger in read if trigger is not None)


def _ranks(table: Fields, key: str) -> tuple[int, ...] | None:
    value = table.raw(key)
    if not table.has(key):
        return None
    if not isinstance(value, list) or not all(type(rank) is int and rank >= 0 for rank in value):
        table.note(key, f"expected a list of ranks, got {value!r}")
        return None
    return tuple(sorted(value))


def _first(kind: str) -> str | None:
    """The field that stands under the trigger's own word."""
    return next((field.name for field in fields(KINDS[kind])), None)
