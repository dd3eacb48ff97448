"""Standard streams of a rank, which its launcher needs after the test, whatever the test has done to them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = {"stdout": 1, "stderr": 2}
"""Names in ``sys`` and their descriptors."""


class RankStreams:
    """Stdout and stderr at the start of the test.

    A test may replace them, as in any pytest. A test that closes them fails, as it does under pytest's own capture.
    """

    def __init__(self) -> None:
        self._streams = {name: getattr(sys, name, None) for name in NUMBERS}

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Fail a phase of the test that closes a stream, and open the stream again."""
        try:
            yield
        finally:
            closed = [name for name, stream in self._streams.items() if stream is not None and _is_closed(stream)]
            for name in closed:
                self._reopen(name)
        if closed:
            names = " and ".join(f"sys.{name}" for name in closed)
            pytest.fail(f"{names}: closed by the test; pytest and derail still write to it", pytrace=False)

    def restore(self) -> None:
        """Restore the streams in ``sys``."""
        for name, stream in self._streams.items():
            setattr(sys, name, stream)
            original = getattr(sys, f"__{name}__", None)
            if original is None or _is_closed(original):
                setattr(sys, f"__{name}__", stream)

    def replace_closed(self) -> None:
        """Replace streams in ``sys`` that are closed; a stream restored after a test may be."""
        for name, stream in self._streams.items():
            present = getattr(sys, name, None)
            if present is not None and _is_closed(present):
                setattr(sys, name, stream)

    def _reopen(self, name: str) -> None:
        old, new = self._streams[name], _open(NUMBERS[name])
        self._streams[name] = new
        for place in (name, f"__{name}__"):
            if getattr(sys, place, None) is old:
                setattr(sys, place, new)


def _is_closed(stream: Any) -> bool:
    try:
        return bool(stream.closed)
    except ValueError:  # it is detached from its buffer
        return True
    except AttributeError:  # a substitute object of the test
        return False


def _open(number: int) -> TextIO | None:
    try:
        return open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    except OSError:
        return None
