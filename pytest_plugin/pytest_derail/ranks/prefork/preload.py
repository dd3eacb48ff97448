"""What the process that warm ranks are forked from has imported: pytest, its plugins, and what the tests need."""

from __future__ import annotations

import os
import pickle
import pickletools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from derail.spawn.zygote import pool, warm
from derail.spawn.zygote.import_scan import imports_of, is_installed
from pytest_derail import integrations
from pytest_derail.ranks.prefork import pytest_session
from pytest_derail.ranks.prefork.collection import Gathering
from pytest_derail.ranks.worker.session import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from derail.agents.native_job import NativeJob
    from derail.model.outcome import JobOutcome
    from derail.model.spec import Preload

OF_EVERY_RANK = (
    "pytest",
    "pytest_derail.ranks.worker.main",
    "pytest_derail.ranks.prefork.collection",
    "pytest_derail.ranks.marker",
    "derail.errors.recorder",
)
"""What each rank imports before it comes to its test."""


@dataclass(slots=True)
class Learned:
    """What the session has found out.

    Attributes:
        preparation: what makes a session of pytest ready; nothing if its plugins are the suite's own code.
        gathering: what collects the tests in it, as far as all ranks find the same; nothing likewise.
        together: what the modules of all tests on ranks import, so that one process serves them all.
        handed: what the values are made of that the first of these tests is handed: fixtures of plugins are the same
            for all.
        is_fit: whether ranks can be forked from a process that has imported all that.
    """

    preparation: tuple[pytest_session.Preparation, ...]
    gathering: tuple[Gathering, ...]
    together: tuple[str, ...]
    handed: tuple[str, ...]
    is_fit: bool = True


LOOKED_THROUGH = 1 << 18
"""Bytes of a pickle that is looked through, at most: it takes a moment."""

LEARNED: pytest.StashKey[Learned] = pytest.StashKey()
"""In the stash of the session."""


def parts(
    item: pytest.Function, wanted: tuple[str, ...] | None, handed: Mapping[str, bytes], *, broken: bool = False
) -> tuple[Preload, ...]:
    """What to preload for a test: pytest, as far as it can be made ready, the modules that the test wants, and the
    tests. By default the wanted modules are the installed ones that are imported by the modules of all tests on ranks,
    or, if no rank can be forked from those, by its own module.

    Args:
        item: the test.
        wanted: modules; None for the default.
        handed: the values of fixtures that its ranks are handed, pickled.
        broken: whether faults are planned for its ranks, which may be about the import of its module.
    """
    learned = _learn(item.session, handed)
    by_default = learned.together if learned.is_fit else imports_of(item.module)
    modules = [*(by_default if wanted is None else wanted), *(learned.handed if learned.is_fit else ())]
    gathering = () if broken else learned.gathering
    return tuple(dict.fromkeys([*OF_EVERY_RANK, *learned.preparation, *modules, *gathering]))


def heed(item: pytest.Function, wanted: tuple[str, ...] | None, result: JobOutcome) -> str:
    """Why the ranks of a job were spawned and not forked, if they were; the next test may fare better."""
    reason = next((fate.spawned_because for fate in result.ranks.values() if fate.spawned_because), "")
    if reason and wanted is None:
        item.session.stash[LEARNED].is_fit = False
    return reason


def why_spawned(item: pytest.Function, wanted: tuple[str, ...] | None, job: NativeJob) -> str:
    """The same of a job that runs."""
    if any(psutil.Process(pid).ppid() in pool.kept() for pid in job.pids().values()):
        return ""
    if wanted is None:
        item.session.stash[LEARNED].is_fit = False
    return next(reversed(warm.refusals()), "")


def _learn(session: pytest.Session, handed: Mapping[str, bytes]) -> Learned:
    found = session.stash.get(LEARNED, None)
    if found is None:
        config = session.config
        preparation: tuple[pytest_session.Preparation, ...] = ()
        gathering: tuple[Gathering, ...] = ()
        if pytest_session.is_possible(config):
            line = command_line(integrations.arguments(config), integrations.options(config))
            preparation = (pytest_session.Preparation.of(line, os.fspath(config.invocation_params.dir)),)
            worker = pickle.dumps(integrations.worker_input(config))
            gathering = (Gathering(*preparation, worker, tuple(dict.fromkeys(map(_file, _on_ranks(session.items))))),)
        named = dict.fromkeys(_modules_in(handed.values()))
        found = session.stash[LEARNED] = Learned(preparation, gathering, tuple(_imports(session.items)), tuple(named))
    return found


def _on_ranks(items: Iterable[pytest.Item]) -> Iterable[pytest.Function]:
    marked = (item for item in items if item.get_closest_marker("ranks") is not None)
    return (item for item in marked if isinstance(item, pytest.Function))


def _file(item: pytest.Item) -> str:
    return os.fspath(item.path)


def _imports(items: Iterable[pytest.Item]) -> Iterable[str]:
    modules = dict.fromkeys(item.module for item in _on_ranks(items))
    return dict.fromkeys(name for module in modules for name in imports_of(module))


def _modules_in(pickles: Iterable[bytes]) -> Iterable[str]:
    """The installed modules that these name: whoever unpickles them imports those."""
    for data in pickles:
        if len(data) <= LOOKED_THROUGH:
            texts = {text for _, text, _ in pickletools.genops(data) if isinstance(text, str)}
            yield from sorted(text for text in texts if text in sys.modules and is_installed(text))
