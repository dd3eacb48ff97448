"""What the process that warm ranks are forked from has imported: pytest, its plugins, and what the tests need."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from derail.spawn import servers, warm
from derail.spawn.imports import imports_of
from pytest_derail import neighbours, prepared
from pytest_derail.rank_session import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from derail.agents.native import NativeJob
    from derail.model.outcome import JobOutcome
    from derail.model.spec import Preload

OF_EVERY_RANK = ("pytest", "pytest_derail.rank_session", "pytest_derail.ranks_mark", "derail.errors.recorder")
"""What each rank imports before it comes to its test."""


@dataclass(slots=True)
class Learned:
    """What the session has found out.

    Attributes:
        preparation: what makes a session of pytest ready; nothing if its plugins are the suite's own code.
        together: what the modules of all tests on ranks import, so that one process serves them all.
        is_fit: whether ranks can be forked from a process that has imported all that.
    """

    preparation: tuple[prepared.Preparation, ...]
    together: tuple[str, ...]
    is_fit: bool = True


LEARNED: pytest.StashKey[Learned] = pytest.StashKey()
"""In the stash of the session."""


def parts(item: pytest.Function, wanted: tuple[str, ...] | None) -> tuple[Preload, ...]:
    """What to preload for a test: pytest, as far as it can be made ready, and the modules that the test wants; by
    default the installed ones that are imported by the modules of all tests on ranks, or, if no rank can be forked from
    those, by its own module."""
    learned = _learn(item.session)
    by_default = learned.together if learned.is_fit else imports_of(item.module)
    return tuple(dict.fromkeys([*OF_EVERY_RANK, *learned.preparation, *(by_default if wanted is None else wanted)]))


def heed(item: pytest.Function, wanted: tuple[str, ...] | None, outcome: JobOutcome | None) -> str:
    """Why the ranks of a job were spawned and not forked, if they were; the next test may fare better."""
    if outcome is None:
        return ""
    reason = next((fate.spawned_because for fate in outcome.ranks.values() if fate.spawned_because), "")
    if reason and wanted is None:
        _learn(item.session).is_fit = False
    return reason


def why_spawned(item: pytest.Function, wanted: tuple[str, ...] | None, job: NativeJob) -> str:
    """The same of a job that runs."""
    if any(psutil.Process(pid).ppid() in servers.kept() for pid in job.pids().values()):
        return ""
    if wanted is None:
        _learn(item.session).is_fit = False
    return next(reversed(warm.refusals()), "")


def _learn(session: pytest.Session) -> Learned:
    found = session.stash.get(LEARNED, None)
    if found is None:
        config = session.config
        preparation: tuple[prepared.Preparation, ...] = ()
        if prepared.is_possible(config):
            line = command_line(neighbours.arguments(config), neighbours.options(config))
            preparation = (prepared.Preparation.of(line, os.fspath(config.invocation_params.dir)),)
        found = session.stash[LEARNED] = Learned(preparation, tuple(_imports(session.items)))
    return found


def _imports(items: Iterable[pytest.Item]) -> Iterable[str]:
    on_ranks = (item for item in items if item.get_closest_marker("ranks") is not None)
    modules = dict.fromkeys(item.module for item in on_ranks if isinstance(item, pytest.Function))
    return dict.fromkeys(name for module in modules for name in imports_of(module))
