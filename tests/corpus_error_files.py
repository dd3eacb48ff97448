"""What a rank can leave under the name of its error file, and what a supervisor should make of each.

Import it from any test: ``from corpus_error_files import CORPUS``, then ``CORPUS[name].write(path)``.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """One error file.

    Attributes:
        write: puts it under a path that is free.
        problem: part of what must be said against it; empty if the file is usable.
        shows: what the text about the failure must contain of it; empty if there is nothing in it.
        remark: part of what must be remarked about a usable file; empty if it is as it should be.
        torch_survives: whether torch's ``dump_error_file`` gets through it (so that its path may be handed to torch).
        timestamp: what it says about the time, if that is a time.
    """

    write: Callable[[Path], None]
    problem: str = ""
    shows: str = ""
    remark: str = ""
    torch_survives: bool = False
    timestamp: int | None = None


CORPUS: dict[str, Case] = {}


def record(text: object = "ValueError: boom", **extra: object) -> dict[str, object]:
    """A document in torch's shape; ``extra`` replaces parts of its extraInfo, and None-valued ones stay null."""
    return {
        "message": {"message": text, "extraInfo": {"py_callstack": "stack: boom", "timestamp": str(SECONDS), **extra}}
    }


def _bytes(name: str, content: bytes, **expected: object) -> None:
    CORPUS[name] = Case(lambda path: _write(path, content), **expected)


def _json(name: str, document: object, **expected: object) -> None:
    _bytes(name, json.dumps(document).encode(), **{"torch_survives": True, **expected})


def _made(name: str, write: Callable[[Path], object], **expected: object) -> None:
    CORPUS[name] = Case(lambda path: _ignore(write(path)), **expected)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _ignore(_: object) -> None:
    return None


GOOD = json.dumps(record()).encode()

# As it should be: the controls.
_json("good", record(), shows="stack: boom", timestamp=SECONDS)
_json("good_string", {"message": "boom", "timestamp": SECONDS}, shows="boom", timestamp=SECONDS)
_json("good_timestamp_as_text", {"message": "boom", "timestamp": "10"}, shows="boom", timestamp=10)
_json("good_error_code", {"message": {**record()["message"], "errorCode": 7}}, shows="stack: boom", timestamp=SECONDS)
_json("unknown_keys", {**record(), "host": "n1", "errorTraits": {"category": "x"}}, shows="boom", timestamp=SECONDS)
_made(
    "link_to_a_good_file",
    lambda path: (_write(path.with_name("target"), GOOD), path.symlink_to("target")),
    shows="stack: boom",
    torch_survives=True,
    timestamp=SECONDS,
)

# No JSON.
_bytes("empty", b"", problem="empty")
_bytes("blank", b" \n\t\n", problem="blank")
_bytes("truncated_early", GOOD[:8], problem="truncated")
_bytes(
    "truncated_in_the_message", b'{"message": {"message": "ValueError: bo', problem="truncated", shows="ValueError: bo"
)
_bytes("truncated_in_an_escape", b'{"message": {"message": "boom \\u00', problem="truncated", shows="boom")
_bytes("truncated_before_the_end", GOOD[:-2], problem="truncated", shows="stack: boom")
_bytes(
    "plain_traceback",
    b"Traceback (most recent call last):\nValueError: boom\n",
    problem="plain text",
    shows="ValueError: boom",
)
_bytes("one_word", b"boom", problem="plain text", shows="boom")
_bytes("single_quotes", b"{'message': 'boom'}", problem="not JSON at byte 1", shows="boom")
_bytes("trailing_comma", b'{"message": "boom",}', problem="not JSON", shows="boom")
_bytes("two_documents", GOOD * 2, problem="more than one document", shows="stack: boom")
_bytes("text_behind_it", GOOD + b"\nKilled\n", problem="more than one document", shows="stack: boom")
_bytes("wrong_brackets", b'{"message": ["boom"}]', problem="not JSON")
_bytes("unbalanced_brackets", b"[}" * 1000, problem="not JSON")
_bytes(
    "a_number_of_5000_digits",
    b'{"message": "boom", "timestamp": ' + b"1" * 5000 + b"}",
    problem="too long",
    shows="boom",
)
_bytes("random_bytes", bytes(range(128, 256)) * 4, problem="binary data")
_bytes("gzip", bytes.fromhex("1f8b0800") + b"\0\xff" * 40, problem="binary data")
_bytes("pickle", b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x04boom\x94.", problem="binary data")

# Not the text that it should be.
_bytes("byte_order_mark", b"\xef\xbb\xbf" + GOOD, shows="stack: boom", remark="byte order mark", timestamp=SECONDS)
_bytes("utf_16", json.dumps(record()).encode("utf-16"), problem="UTF-16", shows="stack: boom")
_bytes("utf_16_without_mark", json.dumps(record()).encode("utf-16-be"), problem="UTF-16", shows="stack: boom")
_bytes("utf_32", json.dumps(record()).encode("utf-32"), problem="UTF-32", shows="stack: boom")
_bytes(
    "invalid_utf_8",
    b'{"message": "boom \xff\xfe", "timestamp": 1700000000}',
    shows="boom \ufffd\ufffd",
    remark="invalid UTF-8 at byte 18",
    timestamp=SECONDS,
)
_bytes("latin_1", '{"message": "boom: Größe"}'.encode("latin-1"), shows="boom: Gr\ufffd", remark="invalid UTF-8")
_bytes("nothing_but_nul", b"\0" * 4096, problem="4096 NUL")
_bytes("nul_padded", GOOD + b"\0" * 512, shows="stack: boom", remark="NUL", timestamp=SECONDS)
_bytes("nul_in_front", b"\0" * 512 + GOOD, shows="stack: boom", remark="NUL", timestamp=SECONDS)
_bytes("raw_newline_in_a_string", b'{"message": "boom\nline 2"}', shows="line 2", remark="raw control characters")
_json(
    "lone_surrogate",
    record("boom \ud800", py_callstack="stack: boom \udfff"),
    shows="stack: boom \ufffd",
    timestamp=SECONDS,
)
_json("surrogate_as_key", {"message": "boom", "\ud800": 1}, shows="boom", remark="no timestamp")
_json("nul_in_the_text", record(py_callstack="stack: \0boom"), shows="stack: \\x00boom", timestamp=SECONDS)
_json(
    "colours_and_returns",
    record(py_callstack="\x1b[31mstack: boom\x1b[0m\r50%\r100%\x07"),
    shows="stack: boom\n    50%\n    100%\\x07",
    timestamp=SECONDS,
)
_json(
    "template_signs",
    record(py_callstack="$boom ${idx} $$ {0} %s %(x)s"),
    shows="$boom ${idx} $$ {0} %s %(x)s",
    timestamp=SECONDS,
)

# JSON, but not what it should be.
_json("top_level_null", None, problem="top level is null")
_json("top_level_list", [record()], problem="top level is a list")
_json("top_level_text", "boom", problem="top level is a string", shows="boom")
_json("top_level_number", 5, problem="top level is a number")
_json("top_level_boolean", True, problem="top level is a boolean")
_json("empty_object", {}, problem="without keys")
_json("no_message", {"error": "boom"}, problem='no key "message"')
_json("message_null", {"message": None}, problem="is null")
_json("message_number", {"message": 5}, problem="is a number")
_json("message_list", {"message": ["boom"]}, problem="is a list")
_json("message_boolean", {"message": False}, problem="is a boolean")
_json("message_empty_text", {"message": "", "timestamp": SECONDS}, remark="message is empty", timestamp=SECONDS)
_json("message_empty_object", {"message": {}}, problem="no text")
_json("inner_message_null", record(None), shows="stack: boom", remark='inner "message" is null', timestamp=SECONDS)
_json("inner_message_object", record({"text": "x"}), shows="stack: boom", remark="is an object", timestamp=SECONDS)
_json("no_extra_info", {"message": {"message": "boom"}}, shows="boom", remark="extraInfo is null")
_json("extra_info_null", {"message": {"message": "boom", "extraInfo": None}}, shows="boom", remark="extraInfo is null")
_json(
    "extra_info_list", {"message": {"message": "boom", "extraInfo": ["x"]}}, shows="boom", remark="extraInfo is a list"
)
_json(
    "callstack_null",
    record(py_callstack=None),
    shows="ValueError: boom",
    remark="py_callstack is null",
    timestamp=SECONDS,
)
_json(
    "callstack_list",
    record(py_callstack=["File x\n", "  boom\n", 5]),
    shows="File x\n      boom",
    remark="py_callstack is a list",
    timestamp=SECONDS,
)
_json(
    "callstack_number",
    record(py_callstack=7),
    shows="ValueError: boom",
    remark="py_callstack is a number",
    timestamp=SECONDS,
)
_bytes(
    "duplicate_keys",
    b'{"message": "other", "message": "boom", "timestamp": 1700000000}',
    shows="boom",
    remark="more than once",
    torch_survives=True,
    timestamp=SECONDS,
)
_bytes(
    "nan_and_infinity",
    b'{"message": "boom", "timestamp": NaN, "loss": -Infinity, "x": 1e999}',
    shows="boom",
    remark="not finite",
    torch_survives=True,
)

# A time that is none: it must not decide who is to blame.
for _name, _value, _remark in (
    ("missing", ..., "no timestamp"),
    ("null", None, "no timestamp"),
    ("zero", 0, "no time of this century"),
    ("negative", -5, "no time of this century"),
    ("in_words", "soon", "not a number"),
    ("boolean", True, "not a time"),
    ("list", [SECONDS], "not a time"),
    ("in_milliseconds", SECONDS * 1000, "milliseconds"),
    ("in_nanoseconds", str(SECONDS * 10**9), "no time of this century"),
    ("of_400_digits", 10**400, "not a time"),
    ("empty_text", "", "not a number"),
):
    _extra = {"py_callstack": "stack: boom"} | ({} if _value is ... else {"timestamp": _value})
    _json(
        f"timestamp_{_name}", {"message": {"message": "boom", "extraInfo": _extra}}, shows="stack: boom", remark=_remark
    )
_json("timestamp_with_fraction", record(timestamp="1700000000.75"), shows="stack: boom", timestamp=SECONDS)

# Too much.
_bytes("nested_100k_deep", b'{"message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", problem="nested deeper")
_bytes(
    "nested_deep_beside_a_message",
    b'{"message": "boom", "x": ' + b'{"a":' * 300 + b"1" + b"}" * 301,
    problem="nested deeper",
    shows="boom",
)
_bytes("never_closed", b"[" * 100_000, problem="nested deeper")
_bytes("a_million_brackets", b"[" * 1_000_000, problem="more than 200000 values")
_bytes(
    "a_million_values",
    b'{"message": "boom", "x": [' + b"[]," * 1_000_000 + b"0]}",
    problem="more than 200000 values",
    shows="boom",
)
_bytes(
    "message_of_4_mib",
    b'{"message": "boom ' + b"x" * (4 << 20) + b' end", "timestamp": 1700000000}',
    shows="boom xxx",
    torch_survives=True,
    timestamp=SECONDS,
)
_made(
    "message_of_64_mib",
    lambda path: _write(path, b'{"message": "boom ' + b"x" * (64 << 20) + b'", "timestamp": 1700000000}'),
    problem="too large",
    shows="boom xxx",
    torch_survives=True,
)
_made("hole_of_a_tebibyte", lambda path: (_write(path, b""), os.truncate(path, 1 << 40)), problem="too large")

# Not a file, or not one that can be read.
_made("directory", lambda path: path.mkdir(), problem="a directory")
_made("fifo", os.mkfifo, problem="a FIFO")
_made("dangling_link", lambda path: path.symlink_to("nowhere"), problem="a link to a file that does not exist")
_made("link_loop", lambda path: path.symlink_to(path.name), problem="cannot be opened")
_made("link_to_a_directory", lambda path: path.symlink_to("/"), problem="a directory")
_made("endless_device", lambda path: path.symlink_to("/dev/zero"), problem="a character device")
if os.path.exists("/dev/full"):
    _made("full_device", lambda path: path.symlink_to("/dev/full"), problem="a character device")
_made("null_device", lambda path: path.symlink_to(os.devnull), problem="a character device")
if os.path.exists("/proc/self/mem"):
    _made("read_error", lambda path: path.symlink_to("/proc/self/mem"), problem="cannot be read")


@lambda write: _made("socket", write, problem="a socket")
def _socket(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY)  # a short path: a socket has at most 107 bytes for its own
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


if os.geteuid() == 0:  # root reads it all the same
    _made(
        "mode_000",
        lambda path: (_write(path, GOOD), path.chmod(0)),
        shows="stack: boom",
        torch_survives=True,
        timestamp=SECONDS,
    )
else:
    _made("mode_000", lambda path: (_write(path, GOOD), path.chmod(0)), problem="cannot be opened")

_KEYS = ["message", "extraInfo", "py_callstack", "timestamp", "errorCode", "wall_ns", "monotonic_ns"]

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()))
    | st.sampled_from([*_KEYS, "1700000000"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS) | st.text(), inner, max_size=5),
    max_leaves=12,
)
documents = _values | st.fixed_dictionaries(
    {"message": _values | st.dictionaries(st.sampled_from(_KEYS), _values)}, optional={"timestamp": _values}
)
"""Hypothesis: JSON documents, many of them nearly error files."""
