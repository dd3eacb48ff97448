"""TOML as plain data: of scenarios, plans and declarations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from derail.errors.text import ends
from derail.platform.input_files import read_input

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ValueError: if it cannot be read, or is no TOML; its text says which, and where.
    """
    return parse_toml(read_text(path))


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        ValueError: if it cannot be read, or is no UTF-8.
    """
    try:
        return read_input(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read: {error}") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: if it is none, is nested too deeply, or has an integer that cannot be printed.
    """
    import tomllib

    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no TOML: {ends(str(error), 500)}") from None
    if large := next(_large_integers(data), None):
        raise ValueError(f"is no TOML: an integer has 64 bits at most, got one of {large.bit_length()} bits")
    return data


def _large_integers(data: object) -> Iterator[int]:
    rest = [data]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)
        elif isinstance(value, int) and value.bit_length() > 1024:
            yield value
