"""Names that the pytest process and its ranks share: order of a rank, paths of records, stash keys.

pytest imports this module in every suite, so it imports nothing of derail. Values of the rooms are ``Any`` here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ON_RANKS = frozenset({"rank", "local_rank", "world_size", "process_group"})
"""Fixtures that are there only on ranks."""

PARAMETER = "_derail_ranks"
"""The hidden parameter of a test whose ``ranks`` marker has a list."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a rank is told about its test.

    Attributes:
        nodeid: of the test.
        node: where it is, for the collection.
        args: the command line of pytest.
        options: what is added to it.
        directory: where pytest was started.
        folder: where the records of ranks are, and where the bell hangs.
        handed: the values of fixtures that were set up in the controller, pickled.
        in_ranks: fixtures that each rank sets up although their scope is wider.
        worker: what plugins find in ``config.workerinput``.
        timeout: seconds that the test may take.
        seed: from which Hypothesis draws, the same in all ranks.
        debugger: where somebody waits who looks into the rank that fails first; empty if nobody does.
        kept: whether the rank, and its process group, stay for the next test.
    """

    nodeid: str
    node: str
    args: tuple[str, ...]
    options: tuple[str, ...]
    directory: str
    folder: Path
    handed: Mapping[str, bytes]
    in_ranks: tuple[str, ...]
    worker: Mapping[str, Any]
    timeout: float
    seed: str
    debugger: str = ""
    kept: bool = False


def report_path(folder: Path, rank: int) -> Path:
    """Where the record of a rank is."""
    return folder / f"rank-{rank}.record"


def names_path(folder: Path, rank: int) -> Path:
    """Where the names are that a rank has registered with its resource tracker."""
    return folder / f"rank-{rank}.names"


def bell_path(folder: Path) -> Path:
    """Where the bell hangs."""
    return folder / "bell"


LIFECYCLE: pytest.StashKey[Any] = pytest.StashKey()
"""In the stash of a test: the lifecycle of its ``derail`` fixture."""

LIVE: pytest.StashKey[list[Any]] = pytest.StashKey()
"""In the stash of the configuration: lifecycles of fixtures that have not been torn down yet."""

RANKS: pytest.StashKey[Any] = pytest.StashKey()
"""In the stash of a test that runs on ranks: its side in the controller."""

CURRENT: pytest.StashKey[Any] = pytest.StashKey()
"""In the stash of the configuration: the test on ranks whose protocol runs."""

BROKEN_OFF: pytest.StashKey[list[Any]] = pytest.StashKey()
"""In the stash of the configuration: tests whose ranks ran when the session was broken off, which have no report."""

KEPT: pytest.StashKey[dict[object, Any]] = pytest.StashKey()
"""In the stash of the configuration: ranks that are kept for the next tests."""

IN_RANK: pytest.StashKey[Order] = pytest.StashKey()
"""In the stash of the configuration of a rank's own session: what it was told."""

NO_SCENARIO: pytest.StashKey[str] = pytest.StashKey()
"""In the stash of the configuration: what to say as ``--scenarios`` has found none."""


def ranks_marker(item: pytest.Item) -> pytest.Mark | None:
    """Return the ``ranks`` marker of a test function; other items (doctests) of its module are no tests on ranks."""
    return item.get_closest_marker("ranks") if isinstance(item, pytest.Function) else None
