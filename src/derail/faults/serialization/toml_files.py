"""Readers of TOML as plain data: scenarios, plans and declarations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from derail.errors.text import ends
from derail.model.input_error import InputError
from derail.platform.input_files import read_input

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: if it cannot be read, or is not valid TOML.
    """
    return parse_toml(read_text(path), source=str(path))


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        InputError: if it cannot be read, or is not valid UTF-8.
    """
    try:
        return read_input(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", source=str(path)) from None


def parse_toml(text: str, *, source: str = "") -> dict[str, Any]:
    """Parse TOML that came from ``source``.

    Raises:
        InputError: if it is not valid TOML, is nested too deeply, or has an integer that cannot be printed.
    """
    import tomllib

    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid TOML: {ends(str(error), 500)}", source=source) from None
    if large := next(_large_integers(data), None):
        problem = f"not valid TOML: expected integers of at most 64 bits, got one of {large.bit_length()} bits"
        raise InputError(problem, source=source)
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
