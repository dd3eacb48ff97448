"""Scorecards as JSON: any content can be written, and reading is strict."""

from __future__ import annotations

from typing import TypeVar

from derail.model.input_error import InputError
from derail.report.scorecard import FORMAT, Row, Scorecard

T = TypeVar("T")


def encode(card: Scorecard) -> bytes:
    """Return a scorecard as JSON."""
    import msgspec

    return msgspec.json.format(_encoded(card), indent=1) + b"\n"


def encode_row(row: Row) -> bytes:
    """Return a row as JSON."""
    return _encoded(row)


def _encoded(value: object) -> bytes:
    """Return JSON, with question marks for characters that UTF-8 lacks (names of files may have them)."""
    import msgspec

    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_proper(msgspec.to_builtins(value)))


def _proper(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _proper(item) for key, item in value.items()}
    return [_proper(item) for item in value] if isinstance(value, list | tuple) else value


def decode_row(data: bytes) -> Row:
    """Return a row from JSON.

    Raises:
        InputError: if the data are no row.
    """
    return _decode(data, Row)


def decode(data: bytes, *, source: str = "") -> Scorecard:
    """Return a scorecard from JSON.

    Raises:
        InputError: if the data are no scorecard, or have another format.
    """
    value: object = _decode(data, object, source=source)
    version = value.get("format") if isinstance(value, dict) else None
    if version != FORMAT:
        problem = "not a scorecard" if version is None else f"format: expected {FORMAT}, got {version}"
        raise InputError(f"{source}: {problem}. `derail verify-agent --json` writes one")
    return _decode(data, Scorecard, source=source)


def _decode(data: bytes, kind: type[T], *, source: str = "") -> T:
    import msgspec

    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise InputError(f"{source or 'data'}: not a scorecard: {error}") from None
