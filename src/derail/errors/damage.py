"""Diagnosis of a malformed error file, and salvage of its readable parts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from derail.errors.text import clean, ends

MAX_DEPTH = 64
MAX_VALUES = 200_000
_SALVAGE_LIMIT = 1 << 20
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+'
_STRINGS = re.compile((_STRING + r'(?:"|\Z)').encode(), re.DOTALL)
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\udc80-\udcff]")
_PAIRS = re.compile(rb"\[\]|\{\}")
_NO_BRACKETS = re.compile(rb"[^\[\]{}]+")


@dataclass(frozen=True, slots=True)
class Malformed:
    """The content of a malformed error file.

    Attributes:
        reason: the problem and its place.
        excerpt: the first bytes of the file.
        message: the message, if it could be salvaged; else empty.
        traceback: the traceback, if it could be salvaged.
    """

    reason: str
    excerpt: bytes = b""
    message: str = ""
    traceback: str | None = None

    def __str__(self) -> str:
        """Return text such as ``truncated JSON at byte 12; it begins with b'{"message": "'``."""
        return f"{self.reason}; it begins with {self.excerpt[:60]!r}" if self.excerpt else self.reason


def shape_problem(data: bytes) -> str:
    """Return why a document cannot be parsed safely: too deep, or too many values; empty if it can.

    That takes a few scans of the text. A parser may run on a small stack in another thread, so the depth is checked
    before it is called.
    """
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH and data.count(b",") <= MAX_VALUES:
        return ""
    bare = _STRINGS.sub(b"", data)
    if bare.count(b"{") + bare.count(b"[") + bare.count(b",") > MAX_VALUES:
        return f"more than {MAX_VALUES} values"
    brackets = _NO_BRACKETS.sub(b"", bare)
    for level in range(MAX_DEPTH):  # each iteration removes the innermost pairs
        outer = _PAIRS.sub(b"", brackets)
        if len(outer) == len(brackets):
            too_deep = level + len(outer) - len(outer.lstrip(b"[{")) > MAX_DEPTH  # a parser stops at a wrong bracket
            break
        brackets = outer
    else:
        too_deep = bool(brackets)
    return f"nested deeper than {MAX_DEPTH} levels" if too_deep else ""


def no_json(error: json.JSONDecodeError, text: str) -> Malformed:
    """Return where a text stops being JSON, and what can be salvaged from it."""
    body = text.rstrip()
    at = len(text[: error.pos].encode(errors="surrogateescape"))
    if not body:
        return Malformed("blank")
    if body.lstrip()[0] not in '{["':
        if _BINARY.search(body, 0, 200):
            return Malformed("binary data, not JSON")
        return Malformed("plain text, not JSON", message=clean(ends(body, 1 << 16)))
    if error.msg == "Extra data":
        return salvaged(f"more than one document: the first ends before byte {at}", text)
    if error.msg.startswith("Unterminated string") or error.pos >= len(body) - 6 * (body[-1] not in "}]"):
        return salvaged(f"truncated JSON at byte {len(text.encode(errors='surrogateescape'))}", text)
    return salvaged(f"not JSON at byte {at}: {error.msg}", text)


def salvaged(reason: str, text: str) -> Malformed:
    """Return Malformed with the message and the call stack, if they are near the beginning of the text."""
    head = text[:_SALVAGE_LIMIT]
    return Malformed(reason, message=_string_of("message", head), traceback=_string_of("py_callstack", head) or None)


def _string_of(key: str, text: str) -> str:
    """Return the first text under ``key`` in text that was meant to be JSON; it may be cut short."""
    match = re.search(rf'"{key}"\s*+:\s*+({_STRING})', text, re.DOTALL)
    if match is None:
        return ""
    try:
        value = json.loads(f'{match[1]}"', strict=False)
    except ValueError:
        value = match[1][1:]
    return clean(str(value))


def lenient_text(data: bytes) -> str:
    """Decode bytes in their probable encoding, with bad ones replaced, as far as ``salvaged`` reads."""
    return data[: 4 * _SALVAGE_LIMIT].decode(json.detect_encoding(data), errors="replace")
