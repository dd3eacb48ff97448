"""Content of the error file: decoding is total and bounded, and reports the problem and its position."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corpus_error_files import CORPUS, GOOD, SECONDS, documents, record
from derail.errors import protocol
from derail.errors.damage import MAX_DEPTH
from derail.errors.protocol import (
    ErrorRecord,
    Malformed,
    decode,
    encode,
    identify,
    identify_content,
    may_be_whole,
    read,
)
from pytest_derail.strategies import error_files

if TYPE_CHECKING:
    from pathlib import Path


@given(error_files() | st.text().map(lambda text: text.encode("utf-16", "surrogatepass")))
@example(b"\0{")
@example(b"\xef\xbb\xbf")
@example(b'{"message": "\\ud800')
@example(b'"\\')
def test_any_bytes_are_decoded(data: bytes) -> None:
    """Whatever the bytes are, the result is a record or a reason."""
    found = decode(data)
    assert isinstance(found, ErrorRecord) or found.reason
    str(found)


@given(documents)
def test_any_json_is_decoded_to_what_utf8_and_strict_json_can_express(document: object) -> None:
    """Messages, tracebacks and data of a record can be written again, whatever the document contains."""
    found = decode(json.dumps(document).encode())
    told = f"{found.message}{found.traceback}"
    told.encode()
    if isinstance(found, ErrorRecord):
        json.dumps(found.data, allow_nan=False, ensure_ascii=False).encode()
        assert found.torch_can_read


@given(st.data(), st.sampled_from([GOOD, json.dumps(record()).encode("utf-16"), b'{"message": "x", "timestamp": 5}']))
def test_any_damage_to_a_good_file_is_decoded(data: st.DataObject, good: bytes) -> None:
    """A file that is cut, or has a byte changed, is a record or Malformed with a reason."""
    at = data.draw(st.integers(0, len(good) - 1))
    cut = decode(good[:at])
    assert isinstance(cut, Malformed)
    changed = decode(good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :])
    assert isinstance(changed, ErrorRecord) or changed.reason


@given(
    message=st.text(min_size=1),
    traceback=st.none() | st.text(),
    wall=st.floats(1e9, 4e9),
    monotonic=st.floats(0, 1e8),
    code=st.none() | st.integers(-64, 255),
)
def test_an_encoded_record_is_decoded(
    message: str, traceback: str | None, wall: float, monotonic: float, code: int | None
) -> None:
    """Message, traceback, times (to the microsecond) and code round-trip; the message replaces a missing traceback."""
    found = decode(encode(message, traceback, wall=wall, monotonic=monotonic, error_code=code))
    stack = message if traceback is None else traceback
    if not message.strip() and not stack.strip():
        assert isinstance(found, Malformed)
        return
    assert isinstance(found, ErrorRecord)
    assert (found.message, found.traceback, found.error_code) == (message, stack if stack.strip() else None, code)
    assert found.timestamp == pytest.approx(wall, abs=2e-6)
    assert found.monotonic == pytest.approx(monotonic, abs=2e-6)


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_is_decoded_as_declared(name: str, tmp_path: Path) -> None:
    """Each bad file has its reason, each odd one its remark and its time."""
    case, path = CORPUS[name], tmp_path / "error.json"
    case.write(path)
    found = read(path)
    if case.problem:
        assert isinstance(found, Malformed)
        assert case.problem in found.reason
        return
    assert isinstance(found, ErrorRecord)
    assert case.remark in "; ".join(found.remarks)
    assert bool(found.remarks) == bool(case.remark)
    assert (None if found.timestamp is None else int(found.timestamp)) == case.timestamp
    assert found.torch_can_read == case.torch_survives


def test_the_reason_has_the_position() -> None:
    """A truncated file is reported at its last byte, a wrong one at the byte with the error."""
    reasons = [decode(data) for data in (b'{"message": "\xc3\xa4', '{"ä": 1 2}'.encode())]
    assert [str(found).partition(";")[0] for found in reasons] == [
        "truncated JSON at byte 15",
        "not JSON at byte 9: Expecting ',' delimiter",
    ]


def test_the_first_bytes_are_kept() -> None:
    """A malformed file is shown with its beginning, but not completely."""
    found = decode(b"\x80oops" + b"x" * 1000)
    assert isinstance(found, Malformed)
    assert (found.excerpt[:5], len(found.excerpt)) == (b"\x80oops", 200)


def test_depth_has_a_limit_that_is_kept() -> None:
    """A document at the limit is decoded; one level more is not."""
    depth = MAX_DEPTH
    inner = depth - 1
    at_limit = b'{"message": "x", "y": ' + b"[" * inner + b"]" * inner + b"}"
    deeper = b'{"message": "x", "y": ' + b"[" * depth + b"]" * depth + b"}"
    assert isinstance(decode(at_limit), ErrorRecord)
    assert isinstance(decode(deeper), Malformed)


def test_brackets_in_texts_do_not_count_as_depth() -> None:
    """A message full of brackets, quotes and backslashes is a message."""
    text = '[{"\\' * 100_000
    found = decode(json.dumps({"message": text}).encode())
    assert (type(found), found.message) == (ErrorRecord, text)


def test_a_small_stack_is_enough() -> None:
    """The thread that decodes may have a stack of 256 KiB: nesting is checked before the parser is called."""
    documents = [b'{"message": "x", "y": ' + b * 100_000 for b in (b"[", b'{"a":', b"[[],")]
    found: list[object] = []
    before = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=lambda: found.extend(decode(document) for document in documents))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert [type(one) for one in found] == [Malformed] * 3


def test_a_deep_stack_of_the_caller_is_no_exception() -> None:
    """With hardly any stack left, the result is Malformed, not RecursionError."""
    answers: list[ErrorRecord | Malformed] = []

    def needs(frames: int) -> int:
        return needs(frames - 1) if frames else len(bytes(1))

    def down() -> None:
        try:
            down()
        except RecursionError:
            needs(3)  # without room for even this, the next frame up calls it
            if len(answers) < 40:
                answers.append(decode(GOOD))
            raise

    with pytest.raises(RecursionError):
        down()
    told = {one.reason if isinstance(one, Malformed) else "" for one in answers}
    assert told == {"", "not decoded: out of stack"}


def test_work_is_bounded() -> None:
    """The worst content within the limit costs seconds at most: many values, many doubles, many quotes."""
    size = 8 << 20
    worst = [
        b'{"message":"x","y":[' + b"[]," * (size // 3 - 20) + b"0]}",
        b'{"message":"x",' + b",".join(b'"k":0' for _ in range(199_990)) + b"}",
        b'{"message":"x","y":[' + b'{"a":0,"a":1},' * 60_000 + b"0]}",
        b'{"message":"' + b'\\"' * (size // 2 - 20),
        b'"message"' + b" " * (size - 20),
        b'"message":' * (size // 10),
        b"[{" * (size // 2),
        b"[" * (size // 2) + b"]" * (size // 2),
        b'"' * size,
    ]
    begin = time.thread_time()  # CPU time: other processes may run in between
    for data in worst:
        decode(data)
    assert time.thread_time() - begin < 60


def test_a_file_that_was_written_to_while_it_was_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reader gets half of the old and half of the new: the second read returns the new."""
    path = tmp_path / "error.json"
    path.write_bytes(b"[" * 50)
    real = os.pread
    calls = []

    def pread(fd: int, count: int, offset: int) -> bytes:
        data = real(fd, count, offset)
        if not calls:
            path.write_bytes(GOOD)
        calls.append(offset)
        return data

    monkeypatch.setattr(protocol.os, "pread", pread)
    assert isinstance(read(path), ErrorRecord)


def test_a_file_that_changes_at_each_read_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes at each read is taken as last read, with a remark."""
    path = tmp_path / "error.json"
    path.write_bytes(GOOD)
    real = os.pread

    def pread(fd: int, count: int, offset: int) -> bytes:
        with path.open("ab") as file:
            file.write(b" ")
        return real(fd, count, offset)

    monkeypatch.setattr(protocol.os, "pread", pread)
    found = read(path, limit=10_000)
    assert isinstance(found, Malformed)
    assert "too large" in found.reason
    monkeypatch.setattr(protocol.os, "pread", lambda fd, count, offset: (os.utime(path), real(fd, count, offset))[1])
    path.write_bytes(GOOD)
    found = read(path)
    assert isinstance(found, ErrorRecord)
    assert found.remarks == ("it was written to while it was read",)


def test_a_file_that_was_replaced_by_a_fifo_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO that replaces the file between the check and the open is recognised, not waited for."""
    path = tmp_path / "error.json"
    path.write_bytes(GOOD)
    real = os.open

    def replace_and_open(name: object, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return real(name, flags)

    monkeypatch.setattr(protocol.os, "open", replace_and_open)
    assert read(path) == Malformed("a FIFO, not a file")


def test_a_file_that_vanished_is_missing(tmp_path: Path) -> None:
    """A missing file, or a missing directory above it, is None."""
    (tmp_path / "file").write_bytes(b"")
    assert [read(tmp_path / "none"), read(tmp_path / "file" / "below")] == [None, None]


@pytest.mark.parametrize("path", ["", "\0", "x" * 5000, "\ud800", "/dev/stdin/x"])
def test_an_impossible_path_is_no_exception(path: str) -> None:
    """Paths that no file can have are missing or Malformed."""
    found = read(path)
    assert found is None or found.reason.startswith("cannot be opened")
    assert identify(path) is None


def test_a_new_mode_makes_no_old_file_new_and_an_old_time_makes_no_new_file_old(tmp_path: Path) -> None:
    """A file from before the start is recognised by the kernel's time of it, and by its content where that differs."""
    path = tmp_path / "error.json"
    path.write_text('{"message": "one"}')
    before = identify_content(path)
    assert before is not None
    path.chmod(0o640)
    assert read(path, stale=before) == Malformed("left by an earlier attempt")
    with path.open("r+") as file:
        file.write('{"message": "two"}')
    os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
    assert isinstance(read(path, stale=before), ErrorRecord)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b'{"message": "x', False),
        (b'{"message": "x"}', True),
        (b'{"message": "x"}\n\0\0', True),
        (b'{"message": "x"}' + b"\0" * 1000, True),
    ],
)
def test_the_end_of_a_file_shows_whether_it_may_be_complete(tmp_path: Path, data: bytes, *, expected: bool) -> None:
    """So a growing file is not decoded each time; a padded one may be complete."""
    path = tmp_path / "error.json"
    path.write_bytes(data)
    assert may_be_whole(path) is expected


def test_an_unchanged_file_of_an_earlier_attempt_is_stale(tmp_path: Path) -> None:
    """A file from before the start is no evidence; later content is, also in another file of that name."""
    path = tmp_path / "error.json"
    assert identify(path) is None
    path.write_bytes(GOOD)
    before = identify(path)
    assert read(path, stale=before) == Malformed("left by an earlier attempt")
    os.utime(path, ns=(1, 1))
    assert isinstance(read(path, stale=before), ErrorRecord)
    before = identify(path)
    new = tmp_path / "new"
    new.write_bytes(GOOD)
    os.utime(new, ns=(1, 1))
    new.replace(path)
    assert isinstance(read(path, stale=before), ErrorRecord)


def test_no_descriptor_leaks_and_a_lack_of_one_is_a_reason(tmp_path: Path) -> None:
    """Out of descriptors, the file is Malformed with that reason."""
    import resource

    path = tmp_path / "error.json"
    path.write_bytes(GOOD)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        found = read(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == Malformed("cannot be opened: Too many open files")


def test_a_file_of_another_clock_keeps_its_second() -> None:
    """Finer clocks count only if they agree with torch's whole second."""
    fine = {"timestamp": str(SECONDS), "wall_ns": SECONDS * 10**9 + 250_000_000}
    other = {"timestamp": str(SECONDS), "wall_ns": 5}
    stamps = [decode(json.dumps(record(**extra)).encode()).timestamp for extra in (fine, other)]
    assert stamps == [SECONDS + 0.25, SECONDS]


@pytest.mark.torch
def test_torch_reads_what_we_write(tmp_path: Path) -> None:
    """Torch's ProcessFailure reads message, traceback and second from our file, and its handler copies it."""
    from torch.distributed.elastic.multiprocessing import errors as torch_errors

    path, copy = tmp_path / "error.json", tmp_path / "copy.json"
    path.write_bytes(encode("ValueError: \ud800 ä", "stack", wall=SECONDS + 0.9, monotonic=5.0))
    failure = torch_errors.ProcessFailure(0, 1, 3, str(path))
    assert (failure.message["message"], failure.timestamp) == ("ValueError: \ud800 ä", SECONDS)
    assert "stack" in str(torch_errors.ChildFailedError("job", {0: failure}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHELASTIC_ERROR_FILE", str(copy))
        torch_errors.ErrorHandler().dump_error_file(str(path), 3)
    found = read(copy)
    assert isinstance(found, ErrorRecord)
    assert found.error_code == 3


@pytest.mark.torch
def test_we_read_what_torch_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file by torch's handler is a record without remarks."""
    from torch.distributed.elastic.multiprocessing import errors as torch_errors

    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    try:
        raise ValueError("boom ä\n$")
    except ValueError as error:
        torch_errors.ErrorHandler().record_exception(error)
    found = read(path)
    assert isinstance(found, ErrorRecord)
    assert (found.message, found.remarks) == ("ValueError: boom ä\n$", ())
    assert "test_we_read_what_torch_writes" in str(found.traceback)
    assert found.timestamp == pytest.approx(time.time(), abs=60)  # noqa: TID251 (torch's clock)


N = protocol.READ_LIMIT - 64
HOSTILE = {
    "bad UTF-8 in a message": b'{"message": "' + b"\xff" * N + b'"}',
    "bad UTF-8 in a call stack": b'{"message": {"message": "x", "extraInfo": {"py_callstack": "' + b"\xff" * N,
    "bad UTF-8 between letters": b'{"message": "' + b"a\xff" * (N // 2) + b'"}',
    "bad UTF-8 behind half of a pair": b'{"message": "' + b"\\ud800\xff" * (N // 7) + b'"}',
    "halves of pairs": b'{"message": "' + b"\\udfff" * (N // 6) + b'"}',
    "cut characters": b'{"message": "' + b"\xe2\x82" * (N // 2) + b'"}',
    "bad UTF-16": b"\xff\xfe" + b"\x00\xd8" * (N // 2),
    "bad UTF-32": b"\xff\xfe\0\0" + b"\xff" * N,
    "nothing but bad bytes": b"\xff" * N,
    "deep": b"[" * N,
    "deep objects": b'{"a":' * (N // 5),
    "pairs of brackets": b"[]" * (N // 2),
    "a huge number": b'{"message": ' + b"1" * N + b"}",
    "a huge exponent": b'{"message": 1e' + b"9" * N + b"}",
    "long numbers": b'{"message": [' + (b"1" * 4299 + b",") * (N // 4300) + b"1]}",
    "many keys": b"{" + b",".join(b'"\xff%d":1' % number for number in range(190_000)) + b"}",
    "escapes of a terminal": b'{"message": "' + b"\x1b[" * (N // 2) + b'"}',
    "backslashes": b'{"message": "' + b"\\" * N + b'"}',
    "keys without an end": b'"message":' * (N // 10),
    "blanks": b'{"message"' + b" " * N,
    "quotes": b'"' * N,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_costs_hardly_more_than_an_honest_one(data):
    """Of the same size, and the same work of the interpreter: measured in CPU time of the thread, as a ratio."""
    honest = b'{"message": "' + "\u00e9\\n".encode() * (N // 4) + b'"}'

    assert min(_cost(data[: protocol.READ_LIMIT]) for _ in range(2)) < 30 * _cost(honest)


def _cost(data):
    """Return the seconds of this thread's CPU time for the decoding of an error file."""
    begun = time.thread_time()
    decode(data)
    return time.thread_time() - begun
