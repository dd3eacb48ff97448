"""What was asked for wrongly is said in words, and exits with 2."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

USAGE = 2
"""Exit code for what was asked for wrongly: options, scripts, plans, scenarios."""

MOST_LINES = 100
LONGEST_LINE = 2000  # characters


class _Listed(Protocol):
    @property
    def family(self) -> str: ...


L = TypeVar("L", bound=_Listed)


def of_families(listed: Iterable[L], families: Sequence[str]) -> list[L]:
    """Return what is listed of these families; all of it if none is named.

    Raises:
        ValueError: if there is no family of that name.
    """
    from derail.model.input_error import not_known

    found = list(listed)
    known = sorted({each.family for each in found})
    for family in families:
        if family not in known:
            raise ValueError(not_known(family, known, "family"))
    return [each for each in found if not families or each.family in families]


@contextmanager
def usage_errors() -> Iterator[None]:
    """What was asked for wrongly, or cannot be started at all, in words and without a traceback."""
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
