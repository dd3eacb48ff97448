"""Counter of the hits of a watchpoint, which fires on the requested occurrences."""

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
"""Threads that run derail's own code now: their calls there are not calls of the program."""


class Ours:
    """Context manager around derail's own code: ``with Ours():``."""

    __slots__ = ("_first", "_thread")

    def __enter__(self) -> None:
        self._thread = _thread.get_ident()
        self._first = self._thread not in _ours
        _ours.add(self._thread)

    def __exit__(self, *_: object) -> None:
        if self._first:
            _ours.discard(self._thread)


class Lookout:
    """Callback of a watchpoint, called at each hit, in any thread.

    ``come`` is called at the requested occurrences, and returns whether that was the last one.

    Attributes:
        over: whether no later occurrence counts.
    """

    def __init__(self, watch: Watch, come: Callable[[int, FrameType | None], bool]) -> None:
        self.watch = watch
        self.over = not watch.hits
        self._come = come
        self._pid = os.getpid()
        self._numbers = itertools.count(1)  # atomic: one step even with threads

    def __call__(self, frame: FrameType | None) -> None:
        """Count one hit."""
        thread = _thread.get_ident()
        if self.over or thread in _ours or os.getpid() != self._pid:
            return
        n = next(self._numbers)
        self.over = self.watch.over(n)
        if self.watch.has(n):
            with Ours():
                self.over = self._come(n, frame) or self.over
