"""Hypothesis strategies for bytes and numbers that ranks leave behind: error files, log writes, exit statuses."""

from __future__ import annotations

import itertools
import json
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from hypothesis import strategies as st

from derail.errors.protocol import encode
from derail.faults.mechanisms.error_file_samples import CONTENTS, document
from derail.model.exit import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

Validity: TypeAlias = Literal["valid", "near-valid", "hostile"]

KINDS: tuple[Validity, ...] = ("valid", "near-valid", "hostile")
_LARGE = ("huge", "many_values")
"""Contents of the corpus that are too large to be drawn often; the corpus has small ones of the same kind."""

_SAYS_SOMETHING = st.text(min_size=1).filter(lambda text: bool(text.strip()))
_MESSAGES = (
    st.sampled_from(["RuntimeError: boom", "KeyError: 'ä'", "NCCL error: \x1b[31munhandled\x1b[0m"]) | _SAYS_SOMETHING
)
_TRACEBACKS = st.sampled_from(["Traceback (most recent call last):\n  ...\nValueError: boom\n"]) | st.text()
_SECONDS = st.floats(1e9, 4e9)


def _valid() -> SearchStrategy[bytes]:
    derails = st.builds(
        encode,
        _MESSAGES,
        st.none() | _TRACEBACKS,
        wall=_SECONDS,
        monotonic=st.floats(0, 1e8),
        error_code=st.none() | st.integers(-64, 255),
    )
    torchs = st.builds(document, _MESSAGES, _SECONDS, stack=_TRACEBACKS)
    plain = st.builds(lambda text, at: {"message": text, "timestamp": str(int(at))}, _MESSAGES, _SECONDS)
    return derails | (torchs | plain).map(lambda data: json.dumps(data).encode())


@st.composite
def _damaged(draw: DrawFn) -> bytes:
    """Draw an error file that was cut, has changed, inserted or deleted bytes, or has its beginning overwritten."""
    whole = draw(_valid())
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + 8)))
    match draw(st.sampled_from(["cut", "change", "overwrite"])):
        case "cut":
            return whole[:start]
        case "change":
            return whole[:start] + draw(st.binary(max_size=4)) + whole[end:]
        case _:
            other = draw(_valid())
            return other + whole[len(other) :]


def _near_valid() -> SearchStrategy[bytes]:
    names = [name for name in CONTENTS if name not in _LARGE]
    corpus = st.builds(
        lambda name, old, seed: CONTENTS[name](old, seed), st.sampled_from(names), _valid(), st.integers(0, 99)
    )
    return corpus | _damaged()


def _hostile() -> SearchStrategy[bytes]:
    parts = st.sampled_from(
        [b"[", b"]", b"{", b"}", b'"', b"\\", b":", b",", b"\0", b"1e999", b"-", b'"message"', b"\xff"]
    )
    soup = st.lists(parts, max_size=40).map(b"".join)
    opened = st.builds(
        lambda part, times: part * times, st.sampled_from([b"[", b'{"a":', b"[[],", b'"\\']), st.integers(1, 5000)
    )
    encodings = st.sampled_from(["utf-16", "utf-32", "utf-16-le", "utf-7", "cp037"])
    others = st.builds(lambda text, encoding: text.encode(encoding, "replace"), st.text(max_size=40), encodings)
    return st.binary(max_size=200) | soup | opened | others | st.integers(0, 5000).map(lambda count: b"\0" * count)


def error_files(kinds: Sequence[Validity] = KINDS) -> SearchStrategy[bytes]:
    """Return a strategy for the contents of an error file.

    Args:
        kinds: "valid": as derail, torch and others write it, with a message; "near-valid": such a file, damaged, or
            written with small errors in the format; "hostile": any bytes, and those that are hard to read.
    """
    strategies = {"valid": _valid, "near-valid": _near_valid, "hostile": _hostile}
    return st.one_of(*(strategies[kind]() for kind in kinds))


@dataclass(frozen=True, slots=True)
class LogStream:
    """Output of a rank to one of its streams.

    Attributes:
        writes: the bytes of each call of write, in order; calls may end in the middle of lines and characters.
    """

    writes: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        """All bytes that are written."""
        return b"".join(self.writes)

    @property
    def lines(self) -> list[bytes]:
        """Lines without their line ends; the last one may have none."""
        lines = self.data.split(b"\n")
        return lines if lines[-1] else lines[:-1]


_WORDS = (
    b"step 3: loss 0.25", b"[rank1]: ", b"[trainer0]:", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", "Schrödinger".encode(),
    b"\0", b"\0" * 8, b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\x1b[31mred\x1b[0m", b"\x1b[2K", b"\t", b" ",
    b"\r", b"\r\n", b"\x0b", b"\x0c", b"\x1c", b"\x85", "\u2028".encode(), b"Traceback (most recent call last):",
)  # fmt: skip
"""Words of the output; they include characters that only Python treats as line ends."""


def _bar(length: int) -> bytes:
    return b"".join(b"\r%3d%%|%-10s|" % (10 * step, b"#" * step) for step in range(length + 1))


@st.composite
def log_streams(draw: DrawFn, *, max_size: int = 40) -> LogStream:
    """Draw the output of a rank: lines, parts of lines and other fragments, in writes that are cut anywhere.

    Fragments are prefixes, progress bars, characters of several bytes, NUL, invalid UTF-8 and colours. Sometimes there
    is no final line end. ``max_size`` is the maximum number of fragments.
    """
    word = st.sampled_from(_WORDS) | st.binary(max_size=6) | st.integers(1, 10).map(_bar)
    parts = draw(st.lists(word | st.just(b"\n") | st.just(b"step 1\n"), max_size=max_size))
    data = b"".join(parts) + draw(st.sampled_from([b"\n", b""]))
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=max_size, unique=True))
    return LogStream(tuple(data[one:other] for one, other in itertools.pairwise(sorted({0, *cuts, len(data)}))))


def exit_statuses(*, lost: bool = True) -> SearchStrategy[ExitStatus]:
    """Return a strategy for exit statuses: a code; any signal of this platform, with or without a core file; unknown.

    Unknown statuses are left out if ``lost`` is False.
    """
    codes = st.builds(ExitStatus, code=st.sampled_from([0, 1, 2, 127, 128, 137, 255]) | st.integers(0, 255))
    numbers = st.sampled_from(sorted(map(int, signal.valid_signals())))
    signals = st.builds(ExitStatus, signal=numbers, core_dumped=st.booleans())
    unknown = st.builds(ExitStatus, lost=st.sampled_from(["stolen", "SIGCHLD was ignored"]) | st.text())
    return codes | signals | unknown if lost else codes | signals
