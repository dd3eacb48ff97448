"""Names shared by the pytest process and its ranks: order of a rank, paths of records, stash keys.

pytest imports this module in every suite, so it imports nothing of derail. Types of other packages are ``Any`` here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ON_RANKS = frozenset({"rank", "local_rank", "world_size", "process_group", "comm", "jax_distributed"})
"""Fixtures that exist only on ranks."""

EVERY = "*"
"""Name among the fixtures that each rank sets up: all of them."""

OF_RECORDED_RANKS = (
    "derail.faults.inrank.bootstrap",
    "derail.faults.inrank.function_wrapper",
    "derail.faults.inrank.hooks.mpi_collectives",
)
"""Modules that each rank imports which records its collectives."""

PARAMETER = "_derail_ranks"
"""Hidden parameter of a test with a list in its ``ranks`` marker."""


@dataclass(frozen=True, slots=True)
class Order:
    """Instructions for a rank about its test.

    Attributes:
        nodeid: node ID of the test.
        node: its location, for the collection.
        args: the command line of pytest.
        options: additional options.
        directory: where pytest was started.
        folder: folder of the ranks' records and of the bell.
        handed: pickled values of the fixtures that were set up in the controller.
        in_ranks: fixtures that each rank sets up although their scope is wider; ``EVERY`` for all.
        worker: the value of ``config.workerinput`` for plugins.
        timeout: time limit of the test in seconds.
        seed: seed for Hypothesis, the same in all ranks.
        debugger: endpoint of the controller for debuggers of ranks; empty if they get no terminal.
        post_mortem: whether the rank that fails first is debugged.
        debugger_for_ide: endpoint of the controller for ranks that wait for an IDE; empty if none does.
        ide: the rank that waits for an IDE, or "all".
        kept: whether the rank, and its process group, stay for the next test.
        names: names of the test and of what contains it, file first, whatever its node ID.
        position: its index among the tests of its file, and their number, as they were collected here.
        call: what the ranks run instead of the test: a sequence of callables without arguments, one for each rank,
            pickled unless ranks are forked. It is empty if they run the test itself.
        environment: variables to set before the call, or to remove if they are None.
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
    post_mortem: bool = False
    debugger_for_ide: str = ""
    ide: int | str | None = None
    kept: bool = False
    names: tuple[str, ...] = ()
    position: tuple[int, int] = (0, 0)
    call: Any = b""
    environment: Mapping[str, str | None] | None = None


def report_path(folder: Path, rank: int) -> Path:
    """Return the path of a rank's record."""
    return folder / f"rank-{rank}.record"


def names_path(folder: Path, rank: int) -> Path:
    """Return the path of the names that a rank has registered with its resource tracker."""
    return folder / f"rank-{rank}.names"


def tests_path(folder: Path, rank: int) -> Path:
    """Return the path of the list of the tests that a rank has collected."""
    return folder / f"rank-{rank}.tests"


def bell_path(folder: Path) -> Path:
    """Return the path of the bell."""
    return folder / "bell"


LIFECYCLE: pytest.StashKey[Any] = pytest.StashKey()
"""In the stash of a test: the lifecycle of its ``derail`` fixture."""

LIVE: pytest.StashKey[list[Any]] = pytest.StashKey()
"""In the stash of the configuration: lifecycles of fixtures that have not been torn down yet."""

RANKS: pytest.StashKey[Any] = pytest.StashKey()
"""In the stash of a test that runs on ranks: its controller side."""

CURRENT: pytest.StashKey[Any] = pytest.StashKey()
"""In the stash of the configuration: the test on ranks whose protocol runs."""

BROKEN_OFF: pytest.StashKey[list[Any]] = pytest.StashKey()
"""In the stash of the configuration: tests without a report, whose ranks ran when the session was aborted."""

KEPT: pytest.StashKey[dict[object, Any]] = pytest.StashKey()
"""In the stash of the configuration: reused ranks."""

IN_RANK: pytest.StashKey[Order] = pytest.StashKey()
"""In the stash of the configuration of a rank's own session: its order."""

AS_COLLECTED: pytest.StashKey[dict[str, list[pytest.Item]]] = pytest.StashKey()
"""In the stash of a session: the tests of each file as they were collected, before hooks sorted or deselected any."""

COLLECTING: pytest.StashKey[Any] = pytest.StashKey()
"""In the stash of the configuration: the environment of rank 0 that conftest files and modules find here."""

ADOPTED: pytest.StashKey[str] = pytest.StashKey()
"""In the stash of a test whose processes are replaced by ranks: the name of its class; empty for other functions."""

NO_SCENARIO: pytest.StashKey[str] = pytest.StashKey()
"""In the stash of the configuration: the message if ``--scenarios`` has found none."""


def ranks_marker(item: pytest.Item) -> pytest.Mark | None:
    """Return the ``ranks`` marker of a test function whose body runs on ranks; None with 0 ranks, or for other items.

    Doctests never run on ranks, and the body of an adopted test runs in the controller.
    """
    runs = isinstance(item, pytest.Function) and not item.stash.get(ADOPTED, "")
    mark = item.get_closest_marker("ranks") if runs else None
    return None if mark is None or mark.args == (0,) else mark


def names_of(item: pytest.Item) -> tuple[str, ...]:
    """Return the names of a test and of what contains it, file first, which hooks that change node IDs leave alone."""
    inside = [node.name for node in item.listchain() if not isinstance(node, pytest.Session | pytest.Dir | pytest.File)]
    return (str(item.path), *inside)
