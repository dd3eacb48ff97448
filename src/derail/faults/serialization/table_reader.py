"""Strict reader of tables: it notes each problem under its path, with the nearest known name, and continues.

The caller raises once, with all the problems.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from derail.model.input_error import not_known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

D = TypeVar("D")
T = TypeVar("T")
_ABSENT = object()


class Fields:
    """Table with a record of the keys read; ``finish`` notes keys that were never read."""

    def __init__(self, data: object, where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        self.table: dict[str, object] = {}
        self._asked: list[str] = []
        if isinstance(data, dict):
            self.table = {str(key): value for key, value in data.items()}
        else:
            self.note("", f"expected a table, got {data!r}")

    def path(self, key: str) -> str:
        """Return the path of a key for messages: ``faults[0].when.line``."""
        return f"{self.where}.{key}" if self.where and key else self.where or key

    def note(self, key: str, what: str) -> None:
        """Note a problem with one key, or with the table itself if the key is empty."""
        self.problems.append(f"{self.path(key) or 'the file'}: {what}")

    def has(self, key: str) -> bool:
        """Return whether the key is present; it is a known one then, present or not."""
        self._take(key)
        return key in self.table

    def need(self, *keys: str) -> None:
        """Note the keys that are missing."""
        for key in keys:
            if key not in self.table:
                self.note(key, "is missing")

    def raw(self, key: str) -> object:
        """Return the value unchecked; None if it is absent."""
        value = self._take(key)
        return None if value is _ABSENT else value

    def text(self, key: str, default: D) -> str | D:
        """Return a string."""
        value = self._take(key)
        if value is _ABSENT or isinstance(value, str):
            return default if value is _ABSENT else str(value)
        return self._wrong(key, "a string", value, default)

    def flag(self, key: str, default: D) -> bool | D:
        """Return a boolean."""
        value = self._take(key)
        if value is _ABSENT or isinstance(value, bool):
            return default if value is _ABSENT else bool(value)
        return self._wrong(key, "true or false", value, default)

    def word(self, key: str, words: Sequence[str], *, what: str = "") -> str | None:
        """Return one of several allowed words, called ``what`` in messages; None if it is absent or not allowed."""
        value = self.text(key, None)
        if value is not None and value not in words:
            self.note(key, not_known(value, words, what or key))
            return None
        return value

    def words(self, key: str, words: Sequence[str], *, what: str) -> tuple[str, ...]:
        """Return a list of allowed words, each called ``what`` in messages; empty if it is absent."""
        found = self.texts(key)
        for word in found:
            if word not in words:
                self.note(key, not_known(word, words, what))
        return found

    def ranks(self, key: str) -> tuple[int, ...] | None:
        """Return a list of ranks; None if it is absent or not such a list."""
        value = self._take(key)
        if value is _ABSENT:
            return None
        if isinstance(value, list) and all(type(rank) is int and rank >= 0 for rank in value):
            return tuple(value)
        return self._wrong(key, "a list of ranks", value, None)

    def keys(self, pattern: str, *, example: str, otherwise: str) -> tuple[str, ...]:
        """Return the keys that match a pattern, of a table with keys chosen by the user.

        Args:
            pattern: a regular expression of the whole key.
            example: a matching key, which represents all of them in a schema.
            otherwise: the message for a key that does not match.
        """
        del example
        for key in self.table:
            if not re.fullmatch(pattern, key):
                self._take(key)
                self.note(key, otherwise)
        return tuple(key for key in self.table if re.fullmatch(pattern, key))

    def custom(self, key: str, read: Callable[[object], T], default: D, *, shape: Mapping[str, Any]) -> T | D:
        """Return the result of ``read`` for a value, or the default if it is absent.

        Args:
            key: the key.
            read: converts the value, or raises ValueError with the problem.
            default: the result if the value is absent or wrong.
            shape: a JSON Schema that accepts every value that ``read`` accepts.
        """
        del shape
        value = self._take(key)
        if value is _ABSENT:
            return default
        try:
            return read(value)
        except ValueError as error:
            self.note(key, str(error))
            return default

    def whole(self, key: str, default: D, *, least: int = 0) -> int | D:
        """Return an integer, ``least`` or more."""
        value = self._take(key)
        if value is _ABSENT:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        return self._wrong(key, f"a whole number, {least} or more", value, default)

    def seconds(self, key: str, default: D) -> float | D:
        """Return a number of seconds, 0 or more, finite."""
        value = self._take(key)
        if value is _ABSENT:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return float(value)
        return self._wrong(key, "a number of seconds, 0 or more", value, default)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty if it is absent."""
        value = self._take(key)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        return () if value is _ABSENT else self._wrong(key, "a list of strings", value, ())

    def table_at(self, key: str) -> Fields:
        """Return a table below this one, empty if it is absent."""
        value = self._take(key)
        return Fields({} if value is _ABSENT else value, self.path(key), self.problems)

    def tables(self, key: str, *, shape: Mapping[str, Any] | None = None) -> list[Fields]:
        """Return a list of tables; a single table counts as a list of one.

        Args:
            key: the key.
            shape: the JSON Schema of one table, if the reader's own requests do not describe it.
        """
        del shape
        value = self._take(key)
        if value is _ABSENT:
            return []
        if isinstance(value, dict):
            return [Fields(value, self.path(key), self.problems)]
        if not isinstance(value, list):
            return self._wrong(key, "a list of tables", value, [])
        return [Fields(item, f"{self.path(key)}[{index}]", self.problems) for index, item in enumerate(value)]

    def finish(self) -> None:
        """Note every key that was never read."""
        for key in self.table:
            if key not in self._asked:
                self.note(key, not_known(key, self._asked, "key"))

    def _take(self, key: str) -> object:
        if key not in self._asked:
            self._asked.append(key)
        return self.table.get(key, _ABSENT)

    def _wrong(self, key: str, meant: str, value: object, default: D) -> D:
        self.note(key, f"expected {meant}, got {value!r}")
        return default
