"""``--derail-ranks N``: all tests of a suite on the same ranks, as under ``torchrun --nproc-per-node N -m pytest``.

Each rank imports conftest files and modules with its own RANK, and sets up all fixtures itself. The process that runs
pytest imports them as well, to collect the tests. They may read RANK, so it has the environment of rank 0 until the
collection is over. There are no other ranks yet: code that joins a process group when it is imported waits for them
in vain, so the collection has a time limit.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import pytest

from derail.agents.invocation import rank_environment
from derail.platform.ports import free_port
from pytest_derail.options import seconds
from pytest_derail.protocol import AS_COLLECTED, COLLECTING, EVERY, names_of, tests_path
from pytest_derail.ranks.time_limit import START_SECONDS
from pytest_derail.shapes import shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

INHERITED = "DERAIL_COLLECTS"
"""Set while tests are collected: a worker of pytest-xdist that inherits it has inherited the other variables, too."""

INNER_FILES = re.compile(r"[/\\](_pytest|pytest|pluggy|importlib)[/\\]|^<frozen ")

NOT_OVER = (
    "derail: the collection was not over after {seconds:g} s. To collect tests, this process imports conftest files "
    "and modules as rank 0 of {ranks}, and no other rank exists yet: what joins a process group on import, or in a "
    "hook of the session, waits for ever. Do that in a session fixture, which only ranks set up. It was here:\n"
)


class Collecting:
    """Environment of rank 0 and time limit, from ``begin`` to ``end``."""

    def __init__(self, config: pytest.Config, ranks: int) -> None:
        self._seconds = START_SECONDS + seconds(config, "timeout")
        self._ranks = ranks
        self._before: dict[str, str | None] = {}
        self._over = threading.Event()
        self._stderr = -1

    def begin(self) -> None:
        """Set the variables, and watch the time in a thread."""
        own = {INHERITED: "1", **rank_environment(0, ranks=self._ranks, run_id="collection", master_port=free_port())}
        self._before = dict.fromkeys(own) if INHERITED in os.environ else {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        self._stderr = os.dup(2)  # pytest captures the descriptor itself from here on
        main = threading.get_ident()
        threading.Thread(target=self._watch, args=(main,), name="derail: collection", daemon=True).start()

    def _watch(self, main: int) -> None:
        if self._over.wait(self._seconds):
            os.close(self._stderr)
            return
        stack = traceback.extract_stack(sys._current_frames().get(main))  # noqa: SLF001 - there is no other way
        of_suite = [each for each in stack if not INNER_FILES.search(each.filename)] or stack
        text = NOT_OVER.format(seconds=self._seconds, ranks=self._ranks) + "".join(traceback.format_list(of_suite))
        os.write(self._stderr, f"\n{text}".encode())
        os._exit(pytest.ExitCode.INTERRUPTED)

    def end(self) -> None:
        """Restore the environment. Idempotent."""
        self._over.set()
        before, self._before = self._before, {}
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def begin(config: pytest.Config, ranks: int) -> None:
    """Give this process the environment of rank 0 until ``end``."""
    collecting = config.stash[COLLECTING] = Collecting(config, ranks)
    config.add_cleanup(collecting.end)
    collecting.begin()


def end(config: pytest.Config) -> None:
    """Give this process its own environment again. Idempotent."""
    if COLLECTING in config.stash:
        config.stash[COLLECTING].end()


def mark(items: Iterable[pytest.Item], ranks: int) -> None:
    """Give tests that can run on ranks the marker, unless they have one, or start jobs themselves."""
    for item in items:
        stays = item.get_closest_marker("no_ranks") or item.get_closest_marker("ranks")
        if not isinstance(item, pytest.Function) or stays:
            continue
        if "derail" not in item.fixturenames and shape_of(item.cls) is None:
            item.add_marker(pytest.mark.ranks(ranks, reuse="session", in_ranks=[EVERY]))


def position(item: pytest.Item) -> tuple[int, int]:
    """Return the index of a test among the tests of its file, as they were collected, and their number."""
    of_file = item.session.stash[AS_COLLECTED].get(str(item.path), [])
    index = next((index for index, each in enumerate(of_file) if each is item), -1)
    return index, len(of_file)


def note_tests(folder: Path, rank: int, items: Sequence[pytest.Item]) -> None:
    """In a rank: write the list of the tests that it has collected."""
    tests_path(folder, rank).write_text(json.dumps([names_of(item) for item in items]))


def difference(folder: Path, ranks: int, root: Path) -> str:
    """Return how the tests that ranks have collected differ; empty if they do not.

    Ranks that have ended before they wrote their list do not count.
    """
    lists: Mapping[int, list[list[str]]] = {
        rank: json.loads(path.read_text()) for rank in range(ranks) if (path := tests_path(folder, rank)).is_file()
    }
    first = min(lists, default=0)
    for rank, tests in lists.items():
        for index in range(max(len(tests), len(lists[first]))):
            ours, theirs = (_nodeid(each, index, root) for each in (lists[first], tests))
            if ours != theirs:
                return (
                    f"the ranks have collected different tests: number {index} is {theirs} in rank {rank}, "
                    f"and {ours} in rank {first}"
                )
    return ""


def _nodeid(tests: Sequence[Sequence[str]], index: int, root: Path) -> str:
    if index >= len(tests):
        return "missing"
    file, *inside = tests[index]
    return "::".join((os.path.relpath(file, root), *inside))
