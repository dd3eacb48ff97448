"""Sanitising of texts from ranks for storage and display: bounded, and expressible in UTF-8."""

from __future__ import annotations

import re

NOT_AVAILABLE = "<N/A>"
"""torch's placeholder for an unknown value."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_LINE_ENDS = re.compile(r"\r+\n|[\r\v\f\x85\u2028\u2029]")
MOST_PAIRS = 10_000
"""Pairs of surrogates that are joined in one text; further ones are replaced."""
_PAIRS = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
_UNESCAPED = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
"""Lone surrogates, except those that represent bytes of invalid UTF-8."""
_BIDI = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROLS = re.compile(rf"[\x00-\x08\x0e-\x1f\x7f-\x9f{_BIDI}]")
_NEITHER_TAB_NOR_LINE_END = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_BIDI}]")


def clean(text: str) -> str:
    """Replace lone surrogates, so that UTF-8 can express the text.

    Surrogates for invalid UTF-8 bytes go through the decoder again, which replaces all at once: one by one would take
    seconds if a rank has filled its error file with them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        text = _PAIRS.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text, MOST_PAIRS)
        return _UNESCAPED.sub("\ufffd", text).encode(errors="surrogateescape").decode(errors="replace")
    return text


def ends(text: str, limit: int) -> str:
    """Return both ends of a text longer than ``limit`` characters, with the number of characters left out.

    A traceback has the place at its beginning, and the error at its end. A single line stays one.
    """
    if len(text) <= limit:
        return text
    half, space = limit // 2, "\n" if "\n" in text else " "
    return f"{text[:half]}{space}[... {len(text) - 2 * half} characters left out ...]{space}{text[-half:]}"


def short(value: object) -> str:
    """Return a value as a few words, for a sentence about it."""
    text = clean(repr(value))
    return text if len(text) <= 40 else f"{text[:36]} ..."


def printable(text: str, limit: int) -> str:
    """Return a text safe for terminals and logs: no colours, one kind of line end, control characters escaped."""
    text = clean(ends(text, limit))
    text = _LINE_ENDS.sub("\n", _ESCAPES.sub("", text))
    return _CONTROLS.sub(_named, text)


def neutral(text: str) -> str:
    """Escape every character that a terminal or a browser interprets, except tabs and line ends.

    These are C0, DEL, C1, other line ends, and those that change the direction of writing.
    """
    return _NEITHER_TAB_NOR_LINE_END.sub(_named, text)


def _named(match: re.Match[str]) -> str:
    """Return a character as a Python escape sequence."""
    return match[0].encode("unicode_escape").decode()


def indented(text: str, margin: str) -> str:
    """Return the text with ``margin`` before each line but the first, and without line ends at its end."""
    return text.rstrip().replace("\n", f"\n{margin}")
