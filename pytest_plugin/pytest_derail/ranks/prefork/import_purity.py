"""Whether what a suite's own code does before its tests comes to the same in every rank.

Conftest files and modules of tests may look at RANK when they are imported, or draw a random number, or open a file:
then each rank has to import them itself. Found out by importing them once, in a process that ends afterwards.
"""

from __future__ import annotations

import atexit
import os
import pdb  # noqa: F401, T100 - pytest has it when it is configured, and from 3.13 on it has an exit function
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
"""Variables that each rank has of its own, or may have."""

SEEDED_BY = {"randomly": (f"{RANDOM} of Python", f"{RANDOM} of numpy")}
"""Plugins that seed generators before each phase of a test, in each process alike: what they were before is lost."""

INHERITED = ("environment", "sys.path", "torch")
"""Settings that a fork has from its parent, whatever they are."""

HARMLESS = os.devnull
"""A descriptor of this is as good as another."""


def alike(preparation: Preparation, worker: Mapping[str, Any], files: Sequence[str]) -> list[str] | None:
    """Begin a session and collect tests as a rank does it; nothing that this process does afterwards can be trusted.

    Returns:
        The files whose import came to nothing in which ranks could differ; None if that cannot be said of the conftest
        files, or of other plugins.
    """
    asked = Asked()
    tempfile.tempdir = None  # who asks for it is to be heard
    with watched(asked):
        before = Look(asked)
        session = begin(preparation, worker)
        if any(map(_is_of_the_suite, session.config.hook.pytest_sessionstart.get_hookimpls())):
            return None  # what it does at the start of a session, it undoes at the end
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
    """Looks before and after each module is imported.

    Attributes:
        unlike: files whose import left something, asked for something, or failed.
        undecided: whether something happened between the imports of modules, as that of a conftest file.
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
        """A collector lists what is in it; a module is imported for that."""
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
    """What this process is like, as far as a fork of it would not have that, or all forks would have it in common."""

    def __init__(self, asked: Asked) -> None:
        with asked.unheard():
            found = Condition.now()
        self._chance = {name: _plain(state) for name, state in found.settings.items() if name.startswith(RANDOM)}
        settings = {name: value for name, value in found.settings.items() if name not in (*self._chance, *INHERITED)}
        things = {key: words for key, words in found.things.items() if not words.endswith(f" {HARMLESS}")}
        finalizers: Any = weakref.finalize
        counts = (atexit._ncallbacks(), len(finalizers._registry), count_threads(), asked.times)  # noqa: SLF001
        self._state = (settings, found.marks, things, counts)

    def differs(self, other: Look, *, but: Collection[str] = ()) -> bool:
        """Whether the other is not the same, apart from some generators of random numbers."""
        return self._state != other._state or self._chances(but) != other._chances(but)

    def _chances(self, but: Collection[str]) -> dict[str, object]:
        return {name: state for name, state in self._chance.items() if name not in but}


def _plain(state: Any) -> object:
    """The state of a generator, to be compared: that of torch is a tensor, which is pickled by where it lies."""
    return state.tolist() if hasattr(state, "tolist") else pickle.dumps(state)


@dataclass(slots=True)
class Asked:
    """How often somebody has asked for something that no other process has.

    Attributes:
        times: how often.
        heard: whether it counts at the moment.
    """

    times: int = 0
    heard: bool = True

    def note(self) -> None:
        """It was asked for."""
        self.times += self.heard

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """While the body runs, nothing counts."""
        self.heard = False
        try:
            yield
        finally:
            self.heard = True


@contextmanager
def watched(asked: Asked) -> Iterator[None]:
    """While the body runs, note who asks for variables of ranks, and what of the suite asks for a number that no other
    process has."""

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
            caller = sys._getframe(1)  # noqa: SLF001 - there is no other way to know who asks
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
