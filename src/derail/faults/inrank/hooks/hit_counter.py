"""Counts how many times a program comes to something, and says so when a time comes that somebody waits for."""

from __future__ import annotations

import _thread
import itertools
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ..rank_plan import Watch

_ours: set[int] = set()
"""The threads that are inside of our own code just now: what they call there is not the program's call."""


class Ours:
    """A stretch of our own code: ``with Ours():``."""

    __slots__ = ("_first", "_thread")

    def __enter__(self) -> None:
        self._thread = _thread.get_ident()
        self._first = self._thread not in _ours
        _ours.add(self._thread)

    def __exit__(self, *_: object) -> None:
        if self._first:
            _ours.discard(self._thread)


class Lookout:
    """Called each time that the program comes to what is watched, in whatever thread.

    ``come`` is called at the times that count, and says whether that was the last one.

    Attributes:
        over: whether no later time counts.
    """

    def __init__(self, watch: Watch, come: Callable[[int, FrameType | None], bool]) -> None:
        self.watch = watch
        self.over = not watch.hits
        self._come = come
        self._pid = os.getpid()
        self._numbers = itertools.count(1)  # counting by it is one step, whatever threads do

    def __call__(self, frame: FrameType | None) -> None:
        """The program is there once more."""
        thread = _thread.get_ident()
        if self.over or thread in _ours or os.getpid() != self._pid:
            return
        n = next(self._numbers)
        self.over = self.watch.over(n)
        if self.watch.has(n):
            with Ours():
                self.over = self._come(n, frame) or self.over
