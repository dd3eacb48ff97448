"""Samples for the path of an error file: contents that are no error file, and entries that are no file."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

from derail.faults.model.plan import decide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HUGE = 64 << 20
"""Size in bytes of the message of a huge file."""

_TEXT = b'Traceback (most recent call last):\n  File "train.py", line 1, in <module>\nRuntimeError: not JSON at all\n'


def document(
    message: str, timestamp: float, *, stack: str = "Traceback ...", pid: int | None = None
) -> dict[str, object]:
    """Return a correct error file, with the pid of its writer if given."""
    extra: dict[str, object] = {"py_callstack": stack, "timestamp": str(int(timestamp))}
    if pid is not None:
        extra["pid"] = pid
    return {"message": {"message": message, "extraInfo": extra}}


def _change(**fields: object) -> Callable[[bytes, int], bytes]:
    """Return a function that makes a correct error file except for some fields; ``...`` removes a field."""

    def change(_: bytes, __: int) -> bytes:
        extra: dict[str, object] = {"py_callstack": "Traceback ...", "timestamp": "1700000000"}
        message: dict[str, object] = {"message": "RuntimeError: changed", "extraInfo": extra}
        for name, value in fields.items():
            place = message if name in message else extra
            if value is ...:
                place.pop(name, None)
            else:
                place[name] = value
        return json.dumps({"message": message}).encode()

    return change


def _noise(_: bytes, seed: int) -> bytes:
    return b"".join(decide(seed, index).to_bytes(8, "big") for index in range(64))


def _constant(data: bytes) -> Callable[[bytes, int], bytes]:
    return lambda _, __: data


CONTENTS: dict[str, Callable[[bytes, int], bytes]] = {
    "truncated": lambda old, _: old[: len(old) // 2],
    "empty": _constant(b""),
    "blank": _constant(b" \n\t\n"),
    "text": _constant(_TEXT),
    "word": _constant(b"Killed"),
    "not_json": lambda old, _: (old or b"{}") + b"\n}{ and something behind it",
    "two_documents": lambda old, _: (old or b'{"message": "first"}') * 2,
    "single_quotes": _constant(b"{'message': 'RuntimeError'}"),
    "binary": _noise,
    "pickle": _constant(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x0cRuntimeError\x94."),
    "null": _constant(b"null"),
    "list": _constant(b"[]"),
    "string": _constant(b'"RuntimeError"'),
    "number": _constant(b"5"),
    "nan": _constant(b"NaN"),
    "infinity": _change(timestamp=float("inf")),
    "long_number": _constant(b'{"message": "boom", "timestamp": ' + b"1" * 5000 + b"}"),
    "bom": lambda old, _: b"\xef\xbb\xbf" + (old or b"{}"),
    "utf16": lambda old, _: (old or b"{}").decode(errors="replace").encode("utf-16"),
    "utf32": lambda old, _: (old or b"{}").decode(errors="replace").encode("utf-32"),
    "invalid_utf8": _constant(b'{"message": "\xff\xfe"}'),
    "nul": _constant(b"\0" * 4096),
    "nul_padded": lambda old, _: old + b"\0" * 4096,
    "nul_in_front": lambda old, _: b"\0" * 512 + old,
    "raw_newline": _constant(b'{"message": "first line\nsecond line", "timestamp": "1700000000"}'),
    "surrogate": _constant(b'{"message": "half a pair: \\ud800", "timestamp": "1700000000"}'),
    "terminal_codes": _change(message="\x1b[31m$boom\x1b[0m ${idx}\r50%\r\x1b[2J\x07", py_callstack="\x1b[8m$hidden"),
    "deep": _constant(b"[" * 100_000 + b"]" * 100_000),
    "many_values": _constant(b'{"message": "boom", "x": [' + b"[]," * 250_000 + b"0]}"),
    "huge": lambda _, __: b'{"message": "' + b"x" * HUGE + b'", "timestamp": "1700000000"}',
    "no_message": _constant(b'{"extra": 1}'),
    "null_message": _constant(b'{"message": null}'),
    "number_message": _constant(b'{"message": 5}'),
    "list_message": _constant(b'{"message": ["RuntimeError"]}'),
    "empty_message": _constant(b'{"message": {}}'),
    "no_extra_info": _change(extraInfo=...),
    "list_extra_info": _change(extraInfo=["x"]),
    "duplicate_keys": _constant(b'{"message": "the first", "message": "the second", "timestamp": "1700000000"}'),
    "no_timestamp": _change(timestamp=...),
    "timestamp_null": _change(timestamp=None),
    "timestamp_word": _change(timestamp="soon"),
    "timestamp_fraction": _change(timestamp="1.5"),
    "timestamp_milliseconds": _change(timestamp="1700000000000"),
    "timestamp_huge": _change(timestamp=str(10**18)),
    "timestamp_zero": _change(timestamp=0),
    "timestamp_negative": _change(timestamp="-1"),
    "null_callstack": _change(py_callstack=None),
    "list_callstack": _change(py_callstack=["line", "line"]),
}
"""The new content of a file by name, made from its old content and the plan's seed."""

NEEDS_OLD = ("truncated", "nul_padded", "nul_in_front")
"""Contents that need an existing file."""


def _directory(path: Path) -> str:
    path.mkdir()
    return "a directory" if path.is_dir() else ""


def _fifo(path: Path) -> str:
    os.mkfifo(path)
    return "a FIFO without a writer" if path.is_fifo() else ""


def _socket(path: Path) -> str:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:  # a short path: the address of a socket has at most 107 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
    return "a socket without a listener" if path.is_socket() else ""


def _link(target: str, what: str) -> Callable[[Path], str]:
    def make(path: Path) -> str:
        path.symlink_to(target)
        return f"{what} ({os.readlink(path)})" if path.is_symlink() else ""

    return make


def _loop(path: Path) -> str:
    path.symlink_to(path.name)
    try:
        path.stat()
    except OSError as error:
        return f"a link to itself ({error.strerror})"
    return ""


def _dangling(path: Path) -> str:
    path.symlink_to(path.with_name("gone"))
    return "a link to nothing" if path.is_symlink() and not path.exists() else ""


def _hole(path: Path) -> str:
    path.touch()
    os.truncate(path, 1 << 40)
    about = path.stat()
    return f"a file of {about.st_size} bytes without any data" if about.st_size == 1 << 40 else ""


PLACES: dict[str, Callable[[Path], str]] = {
    "missing": lambda path: "" if os.path.lexists(path) else "gone",
    "directory": _directory,
    "fifo": _fifo,
    "socket": _socket,
    "dangling_link": _dangling,
    "link_loop": _loop,
    "link_to_directory": _link("/", "a link to a directory"),
    "null_device": _link(os.devnull, "a link to a device"),
    "endless_device": _link("/dev/zero", "a link to an endless device"),
    "full_device": _link("/dev/full", "a link to a device that is full"),
    "read_error": _link("/proc/self/mem", "a link to a file with an unreadable beginning"),
    "hole": _hole,
}
"""The new entry in the file's place by name: makes it, and returns what was verified; empty if it is not there."""


def names() -> Iterator[str]:
    """Yield all sample names in display order, unreadable files last."""
    yield from CONTENTS
    yield from PLACES
    yield "unreadable"
