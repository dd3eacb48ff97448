"""Check that importing the suite has no rank-dependent side effects.

Conftest files and modules of tests may read RANK at import, draw a random number, or open a file: then each rank has to
import them itself. The check imports them once, in a process that ends afterwards.
"""

from __future__ import annotations

import atexit
import os
import pdb  # noqa: F401, T100 - pytest imports it at configuration, and from 3.13 on it registers an exit function
import pickle
import sys
import tempfile
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from derail.agents.invocation import rank_environment
from derail.errors.recorder import ERROR_FILE_ENV
from derail.spawn.zygote.import_scan import is_installed
from derail.spawn.zygote.preload import count_threads
from pytest_derail.jobs.leaks import LASTING
from pytest_derail.ranks.pool.process_state import RANDOM, Condition
from pytest_derail.ranks.worker.session import begin, collect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence

    from pytest_derail.ranks.prefork.pytest_session import Preparation

OF_A_RANK = frozenset({
    *rank_environment(0, ranks=1, run_id="", master_port=0),
    *LASTING,
    "TMPDIR",
    ERROR_FILE_ENV,
})  # fmt: skip
"""Environment variables with a separate value for each rank, or possibly so."""

SEEDED_BY = {"randomly": (f"{RANDOM} of Python", f"{RANDOM} of numpy")}
"""Plugins that seed generators identically in each process before each phase of a test: earlier states are lost."""

INHERITED = ("environment", "sys.path", "torch")
"""Settings that a fork always inherits from its parent."""

HARMLESS = os.devnull
"""File with interchangeable descriptors."""


def alike(preparation: Preparation, worker: Mapping[str, Any], files: Sequence[str]) -> list[str] | None:
    """Begin a session and collect tests as a rank does; afterwards this process is unusable for anything else.

    Returns:
        The files that had no effect when they were imported that could differ between ranks; None if conftest files or
        other plugins may have had one.
    """
    asked = Asked()
    tempfile.tempdir = None  # so that a module that asks for it reads the environment again
    with watched(asked):
        before = Look(asked)
        session = begin(preparation, worker)
        if any(map(_is_of_the_suite, session.config.hook.pytest_sessionstart.get_hookimpls())):
            return None  # its effects at the start of a session are undone at the end
        seeded = {
            name
            for plugin, names in SEEDED_BY.items()
            if session.config.pluginmanager.hasplugin(plugin)
            for name in names
        }
        if before.differs(Look(asked), but=seeded):
            return None
        watch = Watch(asked, seeded)
        session.config.pluginmanager.register(watch)
        collect(session, files)
    return None if watch.undecided else [file for file in files if file not in watch.unlike]


class Watch:
    """Plugin that compares the state of the process before and after each module is imported.

    Attributes:
        unlike: files with an import that left something, read a rank-specific value, or failed.
        undecided: whether the state changed between imports of modules, for example by a conftest file.
    """

    def __init__(self, asked: Asked, seeded: Collection[str]) -> None:
        self.unlike: set[str] = set()
        self.undecided = False
        self._asked, self._seeded = asked, seeded
        self._last = Look(asked)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Compare the state around each collector; collecting a module imports it."""
        before = Look(self._asked)
        self.undecided |= self._last.differs(before, but=self._seeded)
        report = yield
        self._last = Look(self._asked)
        if not report.passed or before.differs(self._last, but=self._seeded):
            module = collector.getparent(pytest.Module)
            self.undecided |= module is None
            self.unlike.add(str(collector.path))
        return report


class Look:
    """State of this process, without what a fork would not inherit or all forks would have in common."""

    def __init__(self, asked: Asked) -> None:
        with asked.paused():
            now = Condition.now()
        self._chance = {name: _plain(state) for name, state in now.settings.items() if name.startswith(RANDOM)}
        settings = {name: value for name, value in now.settings.items() if name not in (*self._chance, *INHERITED)}
        things = {key: words for key, words in now.things.items() if not words.endswith(f" {HARMLESS}")}
        finalizers: Any = weakref.finalize
        counts = (atexit._ncallbacks(), len(finalizers._registry), count_threads(), asked.times)  # noqa: SLF001
        self._state = (settings, now.marks, things, counts)

    def differs(self, other: Look, *, but: Collection[str] = ()) -> bool:
        """Return whether the other state is different, except for the generators in ``but``."""
        return self._state != other._state or self._chances(but) != other._chances(but)

    def _chances(self, but: Collection[str]) -> dict[str, object]:
        return {name: state for name, state in self._chance.items() if name not in but}


def _plain(state: Any) -> object:
    """Return the state of a generator for comparison: torch's is a tensor, and its pickle depends on its address."""
    return state.tolist() if hasattr(state, "tolist") else pickle.dumps(state)


@dataclass(slots=True)
class Asked:
    """Count of requests for values that differ between processes.

    Attributes:
        times: number of requests.
        is_counting: whether requests are counted at the moment.
    """

    times: int = 0
    is_counting: bool = True

    def note(self) -> None:
        """Count a request."""
        self.times += self.is_counting

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count requests while the body runs."""
        self.is_counting = False
        try:
            yield
        finally:
            self.is_counting = True


@contextmanager
def watched(asked: Asked) -> Iterator[None]:
    """While the body runs, count reads of rank-specific variables, and the suite's calls for process-specific values.

    The latter are process ids and random bytes.
    """

    class Watched(type(os.environ)):  # type: ignore[misc]
        def __getitem__(self, name: str) -> str:
            if name in OF_A_RANK:
                asked.note()
            return str(super().__getitem__(name))

        def __iter__(self) -> Iterator[str]:
            asked.note()
            return iter(super().__iter__())

    own: Any = type(os.environ)
    names = ("getpid", "getppid", "urandom")
    functions: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in names}

    def noting(name: str) -> Callable[..., Any]:
        def ask(*args: object) -> Any:
            caller = sys._getframe(1)  # noqa: SLF001 - there is no other way to identify the caller
            if _is_of_the_suite_itself(caller) or _is_of_the_suite_itself(caller.f_back):
                asked.note()
            return functions[name](*args)

        return ask

    try:
        os.environ.__class__ = Watched
        for name in names:
            setattr(os, name, noting(name))
        yield
    finally:
        os.environ.__class__ = own
        for name, function in functions.items():
            setattr(os, name, function)


def _is_of_the_suite_itself(frame: Any) -> bool:
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] not in ("derail", "pytest_derail") and not is_installed(name)


def _is_of_the_suite(implementation: Any) -> bool:
    name = str(implementation.function.__module__)
    return name.partition(".")[0] != "pytest_derail" and not is_installed(name)
