"""Bytes with any boundaries become the same whole lines, and none is lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.logs.lines import LineAssembler, Lines, shown
from pytest_derail.strategies import LogStream, log_streams

_RICH = st.lists(
    st.sampled_from([b"\n", b"\r", b"\0", b"a", b"step 3", b"\xe2\x82\xac", b"\xff", b"\x1b[31m", b"\xf0\x9f\x98\x80"])
    | st.binary(max_size=8),
    max_size=30,
).map(b"".join)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def _assemble(parts: list[bytes], limit: int = 1 << 20) -> list[Lines]:
    assembler = LineAssembler(limit=limit)
    blocks = [block for part in parts for block in assembler.feed(part)]
    last = assembler.finish()
    return blocks if last is None else [*blocks, last]


def _joined(blocks: list[Lines]) -> list[bytes]:
    """Return the lines, joined from pieces with the marks only."""
    lines: list[bytes] = []
    for block in blocks:
        first, *rest = block.split()
        if block.continues:
            lines[-1] += first
        else:
            lines.append(first)
        lines.extend(rest)
    return lines


@given(log_streams())
def test_the_boundaries_of_writes_do_not_matter(stream: LogStream) -> None:
    """Whatever the boundaries of the writes, the lines are those of the whole."""
    assert _joined(_assemble(list(stream.writes))) == stream.lines


@given(_RICH, st.lists(st.integers(0, 500)), st.integers(1, 20))
def test_no_byte_is_lost(data: bytes, cuts: list[int], limit: int) -> None:
    """The output is the input, byte by byte, also where lines are too long and are split into pieces."""
    assert b"".join(block.data for block in _assemble(_cut(data, cuts), limit)) == data


@given(_RICH, st.lists(st.integers(0, 500)), st.integers(1, 20))
def test_pieces_of_a_long_line_are_marked(data: bytes, cuts: list[int], limit: int) -> None:
    """The marks of the pieces suffice to join each line."""
    expected = data.removesuffix(b"\n").split(b"\n") if data else []
    assert _joined(_assemble(_cut(data, cuts), limit)) == expected


@given(_RICH, st.lists(st.integers(0, 500)), st.integers(1, 20))
def test_held_back_bytes_are_bounded(data: bytes, cuts: list[int], limit: int) -> None:
    """An assembler holds no more than its limit, however long the line is."""
    assembler = LineAssembler(limit=limit)
    held = []
    for part in _cut(data, cuts):
        assembler.feed(part)
        held.append(assembler.pending)
    assert max(held, default=0) <= limit


@given(st.text(alphabet="a€😀é", min_size=1, max_size=60), st.integers(4, 20))
def test_a_piece_ends_between_characters(text: str, limit: int) -> None:
    """A line that is split because of its length is not split inside a character."""
    blocks = _assemble([text.encode()], limit)
    assert "".join(block.data.decode() for block in blocks) == text


@given(_RICH)
def test_text_is_decoded_as_python_decodes_the_file(data: bytes) -> None:
    """Bad bytes are replaced as by ``open(errors="replace")``; only a newline ends a line."""
    expected = data.removesuffix(b"\n").decode("utf-8", "replace").split("\n")
    assert Lines(data).texts() == expected


def test_a_progress_bar_is_one_line() -> None:
    """Redraws by carriage return stay in the line, as they were written."""
    assert _assemble([b"\r 10%", b"\r 50%", b"\r100%\n"]) == [Lines(b"\r 10%\r 50%\r100%\n")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("", ""), ("plain", "plain"), ("\r 10%\r100%", "100%"), ("windows\r", "windows"), (" 1%\r 2%\r", " 2%")],
)
def test_of_a_progress_bar_the_last_redraw_is_shown(line: str, expected: str) -> None:
    """A terminal finally shows the last redraw, and so does a report."""
    assert shown(line) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (Lines(b"a\nb\n"), b"> a\n> b\n"),
        (Lines(b"a\nb"), b"> a\n> b\n"),
        (Lines(b"\n"), b"> \n"),
        (Lines(b"a\nlong", more=True), b"> a\n> long"),
        (Lines(b"er", continues=True, more=True), b"er"),
        (Lines(b"est\nb\n", continues=True), b"est\n> b\n"),
        (Lines(b"", continues=True), b"\n"),
    ],
)
def test_each_line_has_its_prefix_once(lines: Lines, expected: bytes) -> None:
    """A prefix is at the beginning of each line and nowhere else; an incomplete last line gets its end."""
    assert lines.prefixed(b"> ") == expected


@given(_RICH.filter(bool), st.booleans(), st.booleans())
def test_an_empty_prefix_changes_nothing(data: bytes, continues: bool, more: bool) -> None:
    """Without a prefix the bytes are unchanged, except for the end of an incomplete line."""
    more = more and not data.endswith(b"\n")
    expected = data if more or data.endswith(b"\n") else data + b"\n"
    assert Lines(data, continues, more).prefixed(b"") == expected


def test_a_limit_without_room_is_refused() -> None:
    """A limit of no bytes could never give a line."""
    with pytest.raises(ValueError, match="give 1 or more"):
        LineAssembler(limit=0)
