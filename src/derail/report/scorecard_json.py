"""Scorecards as JSON: written whatever stands in them, and read strictly."""

from __future__ import annotations

from typing import TypeVar

from derail.model.input_error import InputError
from derail.report.scorecard import FORMAT, Row, Scorecard

T = TypeVar("T")


def encode(card: Scorecard) -> bytes:
    """A scorecard as JSON."""
    import msgspec

    return msgspec.json.format(_encoded(card), indent=1) + b"\n"


def encode_row(told: Row) -> bytes:
    """A row as JSON."""
    return _encoded(told)


def _encoded(value: object) -> bytes:
    """As JSON; characters that UTF-8 does not have (the names of files may) as question marks."""
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
    """A row from JSON.

    Raises:
        InputError: if it is none.
    """
    return _decode(data, Row)


def decode(data: bytes, *, source: str = "") -> Scorecard:
    """A scorecard from JSON.

    Raises:
        InputError: if it is none, or of another format.
    """
    told: object = _decode(data, object, source=source)
    found = told.get("format") if isinstance(told, dict) else None
    if found != FORMAT:
        what = "is no scorecard" if found is None else f"is a scorecard of format {found}, not {FORMAT}"
        raise InputError(f"{source}: {what}; `derail verify-agent --json` writes one")
    return _decode(data, Scorecard, source=source)


def _decode(data: bytes, kind: type[T], *, source: str = "") -> T:
    import msgspec

    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise InputError(f"{source or 'this'}: is no scorecard: {error}") from None
