"""Content of an error file: written by ``encode``, parsed by ``decode``, loaded from disk by ``read``.

A rank may leave anything under the name of its error file. Its launcher must not suffer: ``decode`` and ``read``
return a value for any content, never raise, and do a bounded amount of work.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from derail.errors.damage import Malformed, lenient_text, no_json, salvaged, shape_problem
from derail.errors.document import ErrorRecord, Json, tidy, understand
from derail.errors.identity import READ_LIMIT, SAFELY, Identity, identify, identify_content, may_be_whole, read_bytes
from derail.errors.text import short

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "READ_LIMIT",
    "ErrorRecord",
    "Identity",
    "Json",
    "Malformed",
    "decode",
    "encode",
    "identify",
    "identify_content",
    "may_be_whole",
    "read",
]

_EXCERPT = 200
_MAX_ODDITIES = 8


def encode(
    message: str,
    traceback: str | None = None,
    *,
    wall: float,
    monotonic: float,
    error_code: int | None = None,
    pid: int | None = None,
) -> bytes:
    """Encode an error in torch's shape, with finer clocks beside torch's whole seconds; ASCII only.

    Args:
        message: the short text.
        traceback: the long text.
        wall: seconds since the epoch.
        monotonic: seconds of CLOCK_MONOTONIC.
        error_code: the exit code, where it is known.
        pid: of the process that records, to distinguish a rank from its children.
    """
    extra: Json = {
        "py_callstack": message if traceback is None else traceback,
        "timestamp": str(int(wall)),
        "wall_ns": int(wall * 1e9),
        "monotonic_ns": int(monotonic * 1e9),
    }
    if pid is not None:
        extra["pid"] = pid
    message_value: Json = {"message": message, "extraInfo": extra}
    if error_code is not None:
        message_value["errorCode"] = error_code
    return json.dumps({"message": message_value}).encode("ascii")


def decode(data: bytes) -> ErrorRecord | Malformed:
    """Parse the bytes of an error file, whatever they are. Never raises, and does a bounded amount of work."""
    excerpt = b""
    try:
        excerpt = bytes(data[:_EXCERPT])
        content = _decode(data)
    except (RecursionError, MemoryError) as error:
        content = Malformed(f"not decoded: out of {'memory' if isinstance(error, MemoryError) else 'stack'}")
    return replace(content, excerpt=excerpt) if isinstance(content, Malformed) else content


def read(path: str | Path, *, limit: int = READ_LIMIT, stale: Identity | None = None) -> ErrorRecord | Malformed | None:
    """Read and decode an error file; None if there is none. Never raises, and never waits for another process.

    Args:
        path: its path. Only a regular file is opened, also behind symbolic links.
        limit: bytes to read; a larger file is Malformed, with the readable part of its beginning.
        stale: identity of the file before the rank was started. An unchanged file is Malformed: it belongs to an
            earlier attempt.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return Malformed(f"{_file_kind(status.st_mode)}, not a file")
        # It may have been replaced since: a FIFO must not block, a terminal must not become ours.
        fd = os.open(path, SAFELY)
    except (FileNotFoundError, NotADirectoryError):
        return Malformed("a link to a file that does not exist") if _is_link(path) else None
    except OSError as error:
        return Malformed(f"cannot be opened: {error.strerror or error}")
    except ValueError as error:
        return Malformed(f"cannot be opened: {error}")
    try:
        return _read_open(fd, limit, stale)
    except OSError as error:
        return Malformed(f"cannot be read: {error.strerror or error}")
    finally:
        os.close(fd)


def _read_open(fd: int, limit: int, stale: Identity | None) -> ErrorRecord | Malformed:
    """Read an open file, and read it again if it was written to during the read."""
    content: ErrorRecord | Malformed = Malformed("never read")
    for _ in range(3):
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return Malformed(f"{_file_kind(before.st_mode)}, not a file")
        data = read_bytes(fd, limit + 1)
        if stale is not None and stale.is_left(Identity.of(before), data):
            return Malformed("left by an earlier attempt")
        if len(data) > limit:
            size = max(before.st_size, len(data))
            reason = f"too large: {size} bytes, of which {limit} were read"
            return replace(salvaged(reason, lenient_text(data[:limit])), excerpt=data[:_EXCERPT])
        content = decode(data)
        if Identity.of(os.fstat(fd)) == Identity.of(before):
            return content
    remark = "it was written to while it was read"
    if isinstance(content, Malformed):
        return replace(content, reason=f"{content.reason}; {remark}")
    return replace(content, remarks=(*content.remarks, remark))


def _decode(data: bytes) -> ErrorRecord | Malformed:
    if not data:
        return Malformed("empty")
    if len(data) > READ_LIMIT:
        return salvaged(f"too large: {len(data)} bytes", lenient_text(data[:READ_LIMIT]))
    if not data.strip(b"\0"):
        return Malformed(f"nothing but {len(data)} NUL bytes")
    if not data.strip():
        return Malformed("blank")
    remarks: list[str] = []  # what torch does not tolerate
    oddities: list[str] = []
    if data.startswith(b"\0\0\0\0") or (data.endswith(b"\0") and b"\0" not in data[:4]):
        data = data.strip(b"\0")
        remarks.append("padded with NUL bytes")
    encoding = json.detect_encoding(data)
    if encoding == "utf-8-sig":
        remarks.append("begins with a byte order mark")
        data = data[3:]
    elif encoding != "utf-8":
        return salvaged(f"{encoding[:6].upper()} text, not UTF-8", lenient_text(data))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        remarks.append(f"invalid UTF-8 at byte {error.start}")
        text = data.decode(errors="surrogateescape")
    problem = shape_problem(data)
    if problem:
        return salvaged(problem, text)
    try:
        document = _parse(text, remarks, oddities)
    except json.JSONDecodeError as error:
        return no_json(error, text)
    except ValueError:
        return salvaged("a number in it is too long", text)
    return understand(tidy(document, oddities), [*remarks, *oddities], torch_can_read=not remarks)


def _parse(text: str, remarks: list[str], oddities: list[str]) -> object:
    """Parse JSON, also with raw control characters, and remark on duplicate keys.

    Raises:
        ValueError: (JSONDecodeError in most cases) if it is not JSON.
    """

    def note_doubles(pairs: list[tuple[str, object]]) -> Json:
        mapping = dict(pairs)
        if len(mapping) < len(pairs) and len(oddities) < _MAX_ODDITIES:
            unseen = set(mapping)
            for key, _ in pairs:
                if key not in unseen:
                    oddities.append(f"key {short(key)} more than once; the last one counts")
                    break
                unseen.discard(key)
        return mapping

    try:
        document: object = json.loads(text, object_pairs_hook=note_doubles)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Invalid control character"):
            raise
        oddities.clear()
        document = json.loads(text, object_pairs_hook=note_doubles, strict=False)
        remarks.append("raw control characters in a string")
    return document


def _is_link(path: str | Path) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def _file_kind(mode: int) -> str:
    """Name the kind of a file that is not regular."""
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    )
    return next((name for test, name in kinds if test(mode)), "something special")
