"""Preloaded modules of the zygote, from which warm ranks are forked: pytest, its plugins, and imports of the tests."""

from __future__ import annotations

import os
import pickle
import pickletools
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import psutil
import pytest

from derail.spawn.zygote import pool, warm
from derail.spawn.zygote.import_scan import imports_of, is_installed
from pytest_derail import integrations
from pytest_derail.protocol import ADOPTED, OF_RECORDED_RANKS, ranks_marker
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
    "pytest_derail.adopt.calls",
    "derail.errors.recorder",
    *OF_RECORDED_RANKS,
)
"""Modules that each rank imports before its test."""


@dataclass(slots=True)
class Learned:
    """Preloading decisions of the session.

    Attributes:
        preparation: the object that prepares a pytest session; empty if its plugins are part of the suite.
        gathering: the object that collects the tests in it, as far as all ranks agree; empty in the same case.
        together: imports of the modules of all tests on ranks, so that one zygote serves them all.
        handed: modules of the values handed to the first of these tests: fixtures of plugins are the same for all.
        is_fit: whether ranks can be forked from a process that has imported all of these.
    """

    preparation: tuple[pytest_session.Preparation, ...]
    gathering: tuple[Gathering, ...]
    together: tuple[str, ...]
    handed: tuple[str, ...]
    is_fit: bool = True


OF_PROCESS_GROUP = ("torch", "torch.distributed")
"""Modules that the fixture ``process_group`` imports, if they are installed."""

LOOKED_THROUGH = 1 << 18
"""Maximum size in bytes of a pickle that is searched for modules, as searching takes time."""

LEARNED: pytest.StashKey[Learned] = pytest.StashKey()
"""Key in the stash of the session."""


def parts(
    item: pytest.Function, wanted: tuple[str, ...] | None, handed: Mapping[str, bytes], *, broken: bool = False
) -> tuple[Preload, ...]:
    """Return what to preload for a test: pytest as far as it can be prepared, the wanted modules, and the tests.

    By default the wanted modules are the installed ones that the modules of all tests on ranks import. If no rank can
    be forked from those, they are the imports of the test's own module.

    Args:
        item: the test.
        wanted: modules; None for the default.
        handed: the pickled values of the fixtures that its ranks receive.
        broken: whether faults are planned for its ranks, which may affect the import of its module.
    """
    learned = _learn(item.session, handed)
    by_default = learned.together if learned.is_fit else imports_of(item.module)
    modules = [*(by_default if wanted is None else wanted), *(learned.handed if learned.is_fit else ())]
    gathering = () if broken else learned.gathering
    return tuple(dict.fromkeys([*OF_EVERY_RANK, *learned.preparation, *modules, *gathering]))


def note_spawned(item: pytest.Function, wanted: tuple[str, ...] | None, result: JobOutcome) -> str:
    """Return why the ranks of a job were spawned instead of forked, or ""; adapt the preloading of later tests."""
    reason = next((fate.spawned_because for fate in result.ranks.values() if fate.spawned_because), "")
    if reason and wanted is None:
        item.session.stash[LEARNED].is_fit = False
    return reason


def why_spawned(item: pytest.Function, wanted: tuple[str, ...] | None, job: NativeJob) -> str:
    """Return the same for a running job."""
    if any(psutil.Process(pid).ppid() in pool.kept() for pid in job.pids().values()):
        return ""
    if wanted is None:
        item.session.stash[LEARNED].is_fit = False
    return next(reversed(warm.refusals()), "")


def _learn(session: pytest.Session, handed: Mapping[str, bytes]) -> Learned:
    learned = session.stash.get(LEARNED, None)
    if learned is None:
        config = session.config
        preparation: tuple[pytest_session.Preparation, ...] = ()
        gathering: tuple[Gathering, ...] = ()
        if pytest_session.is_possible(config):
            line = command_line(integrations.arguments(config), integrations.options(config))
            preparation = (pytest_session.Preparation.of(line, os.fspath(config.invocation_params.dir)),)
            worker = pickle.dumps(integrations.worker_input(config))
            gathering = (Gathering(*preparation, worker, tuple(dict.fromkeys(map(_file, _on_ranks(session.items))))),)
        named = dict.fromkeys(_modules_in(handed.values()))
        learned = Learned(preparation, gathering, tuple(_imports(session.items)), tuple(named))
        session.stash[LEARNED] = learned
    return learned


def _on_ranks(items: Iterable[pytest.Item]) -> Iterable[pytest.Function]:
    functions = (item for item in items if isinstance(item, pytest.Function))
    return (item for item in functions if ADOPTED in item.stash or ranks_marker(item) is not None)


def _file(item: pytest.Item) -> str:
    return os.fspath(item.path)


def _imports(items: Iterable[pytest.Item]) -> Iterable[str]:
    on_ranks = list(_on_ranks(items))
    modules = dict.fromkeys(item.module for item in on_ranks)
    needed = OF_PROCESS_GROUP if any("process_group" in item.fixturenames for item in on_ranks) else ()
    return dict.fromkeys([*(name for module in modules for name in imports_of(module)), *filter(_exists, needed)])


def _exists(module: str) -> bool:
    return find_spec(module.partition(".")[0]) is not None


def _modules_in(pickles: Iterable[bytes]) -> Iterable[str]:
    """Yield the installed modules that these pickles name: unpickling imports them."""
    for data in pickles:
        if len(data) <= LOOKED_THROUGH:
            texts = {text for _, text, _ in pickletools.genops(data) if isinstance(text, str)}
            yield from sorted(text for text in texts if text in sys.modules and is_installed(text))
