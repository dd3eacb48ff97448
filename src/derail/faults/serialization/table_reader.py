"""Reads tables strictly: each problem is noted under its path, with the nearest known name, and reading goes on.

Whoever reads a file with it raises once, with all that was noted.
"""

from __future__ import annotations

from typing import TypeVar

from derail.model.input_error import not_known

D = TypeVar("D")
_ABSENT = object()


class Fields:
    """One table that is being read. Every key must be asked for; ``finish`` notes those that nobody asked for."""

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
        """The path of a key, as it stands in messages: ``faults[0].when.line``."""
        return f"{self.where}.{key}" if self.where and key else self.where or key

    def note(self, key: str, what: str) -> None:
        """Note a problem with one key, or with the table itself if the key is empty."""
        self.problems.append(f"{self.path(key) or 'the file'}: {what}")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self.table

    def need(self, *keys: str) -> None:
        """Note the keys that are missing."""
        for key in keys:
            if key not in self.table:
                self.note(key, "is missing")

    def raw(self, key: str) -> object:
        """The value as it is; None if it is absent."""
        value = self._take(key)
        return None if value is _ABSENT else value

    def text(self, key: str, default: D) -> str | D:
        """A string."""
        value = self._take(key)
        if value is _ABSENT or isinstance(value, str):
            return default if value is _ABSENT else str(value)
        return self._wrong(key, "a string", value, default)

    def flag(self, key: str, default: D) -> bool | D:
        """True or false."""
        value = self._take(key)
        if value is _ABSENT or isinstance(value, bool):
            return default if value is _ABSENT else bool(value)
        return self._wrong(key, "true or false", value, default)

    def whole(self, key: str, default: D, *, least: int = 0) -> int | D:
        """A whole number, ``least`` or more."""
        value = self._take(key)
        if value is _ABSENT:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        return self._wrong(key, f"a whole number, {least} or more", value, default)

    def seconds(self, key: str, default: D) -> float | D:
        """A number of seconds, 0 or more, finite."""
        value = self._take(key)
        if value is _ABSENT:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return float(value)
        return self._wrong(key, "a number of seconds, 0 or more", value, default)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty if it is absent."""
        value = self._take(key)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        return () if value is _ABSENT else self._wrong(key, "a list of strings", value, ())

    def table_at(self, key: str) -> Fields:
        """A table below this one, empty if it is absent."""
        value = self._take(key)
        return Fields({} if value is _ABSENT else value, self.path(key), self.problems)

    def tables(self, key: str) -> list[Fields]:
        """A list of tables, or one table where a list of one is meant."""
        value = self._take(key)
        if value is _ABSENT:
            return []
        if isinstance(value, dict):
            return [Fields(value, self.path(key), self.problems)]
        if not isinstance(value, list):
            return self._wrong(key, "a list of tables", value, [])
        return [Fields(item, f"{self.path(key)}[{index}]", self.problems) for index, item in enumerate(value)]

    def finish(self) -> None:
        """Note every key that nobody asked for."""
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
