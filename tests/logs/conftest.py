"""Readers with a memory, and each way of noticing a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Hashable

    from derail.logs import Lines

K = TypeVar("K", bound="Hashable")


class Recorder(Generic[K]):
    """A memory of the lines of each key, joined from pieces."""

    def __init__(self) -> None:
        self.lines: dict[K, list[bytes]] = {}
        self.blocks: list[tuple[K, Lines]] = []

    def take(self, key: K, lines: Lines) -> None:
        """Receive lines of a tail."""
        self.blocks.append((key, lines))
        mine = self.lines.setdefault(key, [])
        first, *rest = lines.split()
        if lines.continues:
            mine[-1] += first
        else:
            mine.append(first)
        mine.extend(rest)


@pytest.fixture
def recorder() -> Recorder[int]:
    """Return a memory of the lines of each file."""
    return Recorder()


@pytest.fixture(params=[True, False], ids=["notified", "polling"])
def notify(request: pytest.FixtureRequest) -> bool:
    """Whether inotify is used."""
    return bool(request.param)
