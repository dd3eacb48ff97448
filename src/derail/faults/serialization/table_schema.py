"""Table without a file, which records the requests of a reader as a JSON Schema of the files that it reads.

Such a schema accepts everything that its reader accepts. A reader may reject more: it compares values with each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from derail.faults.serialization.table_reader import Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

D = TypeVar("D")
T = TypeVar("T")
Schema: TypeAlias = "dict[str, Any]"

RANKS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}


class TableSchema(Fields):
    """Recorder to pass to a reader instead of a table; ``schema`` returns the requests recorded so far."""

    def __init__(self) -> None:
        super().__init__({}, "", [])
        self._properties: dict[str, Schema | TableSchema | list[TableSchema]] = {}
        self._patterns: dict[str, str] = {}
        self._required: list[str] = []
        self._is_closed = False

    def schema(self) -> Schema:
        """Return the JSON Schema of the table."""
        found: Schema = {"type": "object"}
        named = {key: _shape(value) for key, value in self._properties.items() if key not in self._patterns}
        if named:
            found["properties"] = named
        if self._patterns:
            found["patternProperties"] = {
                f"^{pattern}$": _shape(self._properties[example]) for example, pattern in self._patterns.items()
            }
        if self._required:
            found["required"] = list(self._required)
        if self._is_closed or self._patterns:
            found["additionalProperties"] = False
        return found

    def note(self, key: str, what: str) -> None:
        """Ignore problems with values, as there is no file."""

    def has(self, key: str) -> bool:
        """Return that a key is present: requests for optional keys belong to the schema as well."""
        del key
        return True

    def need(self, *keys: str) -> None:
        """Record required keys."""
        self._required += keys

    def raw(self, key: str) -> object:
        """Record a value of any type."""
        self._properties[key] = {}
        return None

    def text(self, key: str, default: D) -> str | D:
        """Record a string."""
        return self._record(key, {"type": "string"}, default)

    def flag(self, key: str, default: D) -> bool | D:
        """Record true or false."""
        return self._record(key, {"type": "boolean"}, default)

    def word(self, key: str, words: Sequence[str], *, what: str = "") -> str | None:
        """Record one of several allowed words."""
        del what
        return self._record(key, {"enum": list(words)}, None)

    def words(self, key: str, words: Sequence[str], *, what: str) -> tuple[str, ...]:
        """Record a list of allowed words."""
        del what
        return self._record(key, {"type": "array", "items": {"enum": list(words)}}, ())

    def ranks(self, key: str) -> tuple[int, ...] | None:
        """Record a list of ranks."""
        return self._record(key, dict(RANKS), None)

    def keys(self, pattern: str, *, example: str, otherwise: str) -> tuple[str, ...]:
        """Record that the user chooses the keys; the requests for the example apply to all of them."""
        del otherwise
        self._patterns[example] = pattern
        return (example,)

    def custom(self, key: str, read: Callable[[object], T], default: D, *, shape: Mapping[str, Any]) -> T | D:
        """Record the shape of a value."""
        del read
        return self._record(key, dict(shape), default)

    def whole(self, key: str, default: D, *, least: int = 0) -> int | D:
        """Record a whole number."""
        return self._record(key, {"type": "integer", "minimum": least}, default)

    def seconds(self, key: str, default: D) -> float | D:
        """Record a number of seconds."""
        return self._record(key, {"type": "number", "minimum": 0}, default)

    def texts(self, key: str) -> tuple[str, ...]:
        """Record a list of strings."""
        return self._record(key, {"type": "array", "items": {"type": "string"}}, ())

    def table_at(self, key: str) -> TableSchema:
        """Record a table below this one."""
        below = TableSchema()
        self._properties[key] = below
        return below

    def tables(self, key: str, *, shape: Mapping[str, Any] | None = None) -> list[Fields]:
        """Record a list of tables, or one table."""
        below = TableSchema()
        self._properties[key] = [below] if shape is None else _one_or_more(dict(shape))
        return [below]

    def finish(self) -> None:
        """Record that all other keys are errors."""
        self._is_closed = True

    def _record(self, key: str, shape: Schema, value: T) -> T:
        self._properties.setdefault(key, shape)  # a key that was requested unchecked may have any value
        return value


def _shape(recorded: Schema | TableSchema | list[TableSchema]) -> Schema:
    if isinstance(recorded, TableSchema):
        return recorded.schema()
    if isinstance(recorded, list):
        return _one_or_more(recorded[0].schema())
    return recorded


def _one_or_more(table: Schema) -> Schema:
    return {"anyOf": [{"type": "array", "items": table}, table]}
