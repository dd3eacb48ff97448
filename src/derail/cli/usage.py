"""Conversion of input errors into a message and exit code 2."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

USAGE = 2
"""Exit code for input errors: in options, scripts, plans, scenarios."""

MOST_LINES = 100  # lines of a message
LONGEST_LINE = 2000  # characters


class _Listed(Protocol):
    @property
    def family(self) -> str: ...


L = TypeVar("L", bound=_Listed)


def of_families(listed: Iterable[L], families: Sequence[str]) -> list[L]:
    """Return the entries of these families; all entries if no family is named.

    Raises:
        ValueError: if a family does not exist.
    """
    from derail.model.input_error import not_known

    entries = list(listed)
    existing = sorted({each.family for each in entries})
    for family in families:
        if family not in existing:
            raise ValueError(not_known(family, existing, "family"))
    return [each for each in entries if not families or each.family in families]


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn input errors, and failures to start anything, into a message and exit code 2, without a traceback."""
    from derail.errors.text import neutral
    from derail.model.input_error import InputError

    try:
        yield
    except (InputError, OSError, ValueError) as error:
        lines = str(error).splitlines()
        for line in lines[:MOST_LINES]:
            text = neutral(line)
            click.echo(f"derail: {text if len(text) <= LONGEST_LINE else f'{text[:LONGEST_LINE]} ...'}", err=True)
        if len(lines) > MOST_LINES:
            click.echo(f"derail: and {len(lines) - MOST_LINES} more", err=True)
        sys.exit(USAGE)
