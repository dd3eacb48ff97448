"""Plans as TOML and JSON, strictly: all that is wrong with a text is said at once, each with its path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from derail.faults.catalogue.signature import param_schema
from derail.faults.model.plan import Plan
from derail.faults.model.targets import WORDS
from derail.faults.registry import make
from derail.faults.serialization.table_reader import Fields
from derail.faults.serialization.table_schema import TableSchema
from derail.faults.serialization.toml_files import parse_toml, read_text
from derail.faults.serialization.trigger_codec import REFERENCE
from derail.faults.serialization.trigger_codec import from_data as read_trigger
from derail.faults.serialization.trigger_codec import schema as trigger_schema
from derail.model.input_error import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from derail.faults.catalogue.entry import Entry
    from derail.faults.model.plan import Fault
    from derail.faults.model.triggers import Data
    from derail.faults.serialization.table_schema import Schema

FAULT = {"$ref": "#/definitions/fault"}
TARGET = {"$ref": "#/definitions/target"}
_TARGET: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
        {"enum": list(WORDS)},
    ]
}


def load(path: Path) -> Plan:
    """Read a plan from a ``.toml`` or ``.json`` file.

    Raises:
        InputError: if it is no file, has another suffix, or anything in it is wrong.
    """
    text = read_text(path)
    if path.suffix not in (".toml", ".json"):
        raise InputError(f"is neither .toml nor .json, but {path.suffix or 'without a suffix'}", source=str(path))
    return (from_toml if path.suffix == ".toml" else from_json)(text, source=str(path))


def from_toml(text: str, *, source: str = "") -> Plan:
    """Read a plan from TOML.

    Raises:
        InputError: if it is no TOML, or anything in it is wrong.
    """
    return from_data(parse_toml(text, source=source), source=source)


def from_json(text: str, *, source: str = "") -> Plan:
    """Read a plan from JSON.

    Raises:
        InputError: if it is no JSON, or anything in it is wrong.
    """
    import json

    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no JSON: {error}", source=source) from None
    return from_data(data, source=source)


def from_data(data: object, *, source: str = "") -> Plan:
    """Read a plan from plain data.

    Raises:
        InputError: if anything in it is wrong.
    """
    problems: list[str] = []
    fields = Fields(data, "", problems)
    plan = read_plan(fields)
    fields.finish()
    if problems:
        raise InputError(*problems, source=source)
    return plan


def read_plan(fields: Fields) -> Plan:
    """Read ``seed``, ``keep_alive`` and ``faults`` from a table that may say more; what is wrong is noted there."""
    seed = fields.whole("seed", 0)
    if seed >= 2**63:
        fields.note("seed", "is 2**63 or more")
        seed = 0
    keep_alive = fields.whole("keep_alive", 0)
    faults = [_read_fault(table) for table in fields.tables("faults", shape=FAULT)]
    try:
        return Plan(tuple(fault for fault in faults if fault is not None), seed, keep_alive)
    except InputError as error:
        fields.problems.extend(error.problems)
        return Plan((), seed)


def _read_fault(table: Fields) -> Fault | None:
    before = len(table.problems)
    table.need("fault", "rank")
    name = table.text("fault", "")
    common = {"fault", "rank", "when", "times", "for", "id"}
    rank = table.custom("rank", lambda value: value, 0, shape=TARGET)
    when = table.custom(
        "when", lambda value: read_trigger(value, table.path("when"), table.problems), None, shape=REFERENCE
    )
    times, long, name_of_it = table.whole("times", None, least=1), table.seconds("for", None), table.text("id", "")
    given = {key: value for key, value in table.table.items() if key not in common}
    if len(table.problems) > before and not name:
        return None
    made = make(
        name, given, table.problems, where=table.where,
        rank=rank, when=when, times=times, for_=long, id=name_of_it,
    )  # fmt: skip
    return made if len(table.problems) == before else None


def schema() -> Schema:
    """Return the JSON Schema of plans, without the definitions that it refers to."""
    table = TableSchema()
    read_plan(table)
    table.finish()
    return table.schema()


def definitions() -> Schema:
    """Return the JSON Schemas of triggers, targets and faults, by the names under which schemas refer to them."""
    from derail.faults.registry import entries

    table = TableSchema()
    _read_fault(table)
    common = table.schema()
    return {
        "trigger": trigger_schema(),
        "target": _TARGET,
        "fault": {"anyOf": [_schema_of(entry, common) for entry in entries().values()]},
    }


def _schema_of(entry: Entry, common: Schema) -> Schema:
    """Return the JSON Schema of one fault; of all faults ``common`` has the keys."""
    shared = {key: shape for key, shape in common["properties"].items() if key != "for" or entry.acts.lasts}
    named = {"fault": {"enum": [entry.name], "description": entry.summary}}
    return {
        "type": "object",
        "description": entry.summary,
        "properties": {**shared, **named, **{param.name: param_schema(param) for param in entry.params}},
        "required": [*common["required"], *(param.name for param in entry.params if param.required)],
        "additionalProperties": False,
    }


def to_json(plan: Plan) -> str:
    """Return the plan as JSON."""
    import json

    return json.dumps(plan.data(), indent=2) + "\n"


def to_toml(plan: Plan) -> str:
    """Return the plan as TOML."""
    lines = [f"seed = {plan.seed}", *([f"keep_alive = {plan.keep_alive}"] if plan.keep_alive else [])]
    for fault in plan.faults:
        lines += ["", "[[faults]]"]
        lines += [f"{key} = {toml_value(value)}" for key, value in {**fault.data(), "id": fault.id}.items()]
    return "\n".join(lines) + "\n"


def toml_value(value: Data) -> str:
    """Return a value as TOML in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f'"{"".join(map(_toml_char, value))}"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{toml_key(key)} = {toml_value(item)}' for key, item in value.items())} }}"
    raise TypeError(f"TOML has no way to write {value!r}")


def toml_key(key: str) -> str:
    """Return a key as TOML, in quotes where it needs them."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def _toml_char(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return f"\\u{ord(char):04x}" if ord(char) < 0x20 or ord(char) == 0x7F else char
