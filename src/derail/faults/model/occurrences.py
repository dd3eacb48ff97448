"""Occurrences of a counted event, numbered from 1: ``4``, ``2..6``, ``2..8+2``, ``3..``, ``1..+10``."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hits:
    """Set of occurrences.

    Attributes:
        first: the first occurrence.
        last: the upper bound; None for no end.
        step: the distance between two occurrences.
    """

    first: int
    last: int | None
    step: int = 1

    @classmethod
    def read(cls, text: int | str) -> Hits:
        """Parse the notation.

        Raises:
            ValueError: if the notation is invalid.
        """
        found = re.fullmatch(r"(-?[0-9]+)(?:(\.\.)([0-9]*)(?:\+([0-9]+))?)?", str(text).replace(" ", ""))
        if found is None:
            raise ValueError(f"expected something like '4', '2..6', '2..8+2' or '3..', got {text!r}")
        first = int(found[1])
        last = first if not found[2] else int(found[3]) if found[3] else None
        step = int(found[4] or 1)
        if first < 1 or step < 1 or (last is not None and last < first):
            raise ValueError(f"expected occurrences from 1 upwards, in steps of 1 or more, got {text!r}")
        return cls(first, last, step)

    def has(self, number: int) -> bool:
        """Return whether an occurrence is in the set."""
        late = self.last is not None and number > self.last
        return number >= self.first and not late and (number - self.first) % self.step == 0

    def nth(self, place: int) -> int | None:
        """Return the occurrence at a place in the set, counted from 1; None if the set has fewer."""
        number = self.first + (place - 1) * self.step
        return None if self.last is not None and number > self.last else number

    @property
    def count(self) -> int | None:
        """Number of occurrences; None if there is no end."""
        return None if self.last is None else (self.last - self.first) // self.step + 1

    @property
    def value(self) -> int | str:
        """Notation: a number if there is only one occurrence, otherwise the text."""
        return self.first if self.last == self.first else str(self)

    def __str__(self) -> str:
        if self.last == self.first:
            return str(self.first)
        step = "" if self.step == 1 else f"+{self.step}"
        return f"{self.first}..{'' if self.last is None else self.last}{step}"
