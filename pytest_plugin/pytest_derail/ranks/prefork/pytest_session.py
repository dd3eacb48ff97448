"""A pytest session as far as it is the same in each rank: made once, in the process that warm ranks are forked from.

It ends where code of the suite begins, whose conftest files and modules may look at RANK. A rank goes on from there:
conftest files, ``pytest_configure``, collection. What is done here is what pytest itself does, in the same order, only
that fixtures of plugins are found before ``pytest_configure`` and not after it. Where that fails a rank has to begin at
the beginning.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from derail.spawn.zygote.import_scan import is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLES = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
"""What pytest reads before it comes to the suite."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a session depends on so far. Calling it makes one, for ``take`` to find.

    Attributes:
        args: the command line of a rank.
        directory: where pytest was started.
        variables: what pytest reads from the environment.
    """

    args: tuple[str, ...]
    directory: str
    variables: tuple[str | None, ...]

    @classmethod
    def of(cls, args: tuple[str, ...], directory: str) -> Preparation:
        """That of a rank with this command line, in an environment like this process's own."""
        return cls(args, directory, tuple(map(os.environ.get, VARIABLES)))

    def __call__(self) -> None:
        """Make the session."""
        here = os.getcwd()
        os.chdir(self.directory)
        try:
            _made[self] = _make(list(self.args))
        finally:
            os.chdir(here)


_made: dict[Preparation, tuple[pytest.Session, list[str]]] = {}


class _StopHereError(Exception):
    pass


class _HookUpToConftests:
    """The hooks of a configuration, but the one that loads the first conftest files: that one stops it."""

    def __init__(self, hook: object) -> None:
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        """Any other hook."""
        if name == "pytest_load_initial_conftests":
            raise _StopHereError
        return getattr(self._hook, name)


def is_possible(config: pytest.Config) -> bool:
    """Whether the plugins of a session are all installed ones: others are the suite's own code. Objects that were given
    to ``pytest.main``, or registered by other plugins, are in no other process."""
    manager = config.pluginmanager
    offered = [plugin for plugin, _ in manager.list_plugin_distinfo()]
    named = [plugin for plugin in manager.get_plugins() if isinstance(plugin, ModuleType)]
    return all(map(_is_installed, (*offered, *named)))


def is_made(preparation: Preparation) -> bool:
    """Whether there is a session to ``take``."""
    return preparation in _made


def take(preparation: Preparation) -> pytest.Session | None:
    """The session that was made for this, with the suite's own part of its configuration added; None if there is none.
    It is taken once."""
    found = _made.pop(preparation, None)
    if found is None:
        return None
    session, args = found
    config: Any = session.config
    config.hook.pytest_load_initial_conftests(early_config=config, args=args, parser=config._parser)  # noqa: SLF001
    config._parser.parse(args, namespace=config.option)  # noqa: SLF001
    config.args = list(config.option.file_or_dir) or [os.getcwd()]
    flush = getattr(_fixtures_of(session), "_flush_pending_conftests_to_session", None)
    if flush is not None:
        flush(session)
    return session


def start(session: pytest.Session) -> None:
    """Tell plugins that the session has begun; one that was made here has its fixtures already."""
    from _pytest import fixtures

    hook = session.config.hook.pytest_sessionstart
    if _fixtures_of(session) is not None:
        hook = session.config.pluginmanager.subset_hook_caller("pytest_sessionstart", [fixtures])
    hook(session=session)


def _fixtures_of(session: pytest.Session) -> Any:
    return getattr(session, "_fixturemanager", None)


def _make(args: list[str]) -> tuple[pytest.Session, list[str]]:
    from _pytest.config import get_config
    from _pytest.fixtures import FixtureManager

    config: Any = get_config(args)
    config.hook, hook = _HookUpToConftests(config.hook), config.hook
    try:
        config.parse(args)
    except _StopHereError:
        pass
    else:
        raise RuntimeError("this version of pytest reads its command line in another way")
    finally:
        config.hook = hook
    session: Any = pytest.Session.from_config(config)
    session._fixturemanager = FixtureManager(session)  # noqa: SLF001
    return session, args


def _is_installed(plugin: object) -> bool:
    modules: Iterator[str] = (str(getattr(of, "__module__", "")) for of in (plugin, type(plugin)))
    name = getattr(plugin, "__name__", "") or next(filter(None, modules), "")
    file = str(getattr(plugin, "__file__", None) or "")
    is_conftest = os.path.basename(file) == "conftest.py"
    return is_conftest or name.partition(".")[0] == "pytest_derail" or is_installed(name)
