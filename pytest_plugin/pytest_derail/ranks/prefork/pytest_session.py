"""Part of a pytest session that is the same in each rank, prepared once in the zygote of warm ranks.

The preparation ends where code of the suite begins, because conftest files and modules may read RANK. A rank continues
from there: conftest files, ``pytest_configure``, collection. The steps are those of pytest itself, in the same order.
One differs: fixtures of plugins are found before ``pytest_configure`` and not after it. If the preparation fails, a
rank starts from the beginning.
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
"""Variables that pytest reads before it reaches the suite."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """Inputs of a prepared session. Calling the object prepares it; ``take`` returns the result.

    Attributes:
        args: the command line of a rank.
        directory: where pytest was started.
        variables: values of the environment variables that pytest reads.
    """

    args: tuple[str, ...]
    directory: str
    variables: tuple[str | None, ...]

    @classmethod
    def of(cls, args: tuple[str, ...], directory: str) -> Preparation:
        """Return the preparation of a rank with this command line, in an environment like this process's own."""
        return cls(args, directory, tuple(map(os.environ.get, VARIABLES)))

    def __call__(self) -> None:
        """Prepare the session."""
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
    """Hooks of a configuration; the hook that loads the first conftest files stops the preparation instead."""

    def __init__(self, hook: object) -> None:
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        """Return any other hook."""
        if name == "pytest_load_initial_conftests":
            raise _StopHereError
        return getattr(self._hook, name)


def is_possible(config: pytest.Config) -> bool:
    """Return whether all plugins of a session are installed, as others are part of the suite.

    Objects passed to ``pytest.main``, or registered by other plugins, exist in no other process.
    """
    manager = config.pluginmanager
    offered = [plugin for plugin, _ in manager.list_plugin_distinfo()]
    named = [plugin for plugin in manager.get_plugins() if isinstance(plugin, ModuleType)]
    return all(map(_is_installed, (*offered, *named)))


def is_made(preparation: Preparation) -> bool:
    """Return whether there is a session to ``take``."""
    return preparation in _made


def take(preparation: Preparation) -> pytest.Session | None:
    """Return the prepared session once, after configuring the suite's own part of it; None if there is none."""
    made = _made.pop(preparation, None)
    if made is None:
        return None
    session, args = made
    config: Any = session.config
    config.hook.pytest_load_initial_conftests(early_config=config, args=args, parser=config._parser)  # noqa: SLF001
    config._parser.parse(args, namespace=config.option)  # noqa: SLF001
    config.args = list(config.option.file_or_dir) or [os.getcwd()]
    flush = getattr(_fixtures_of(session), "_flush_pending_conftests_to_session", None)
    if flush is not None:
        flush(session)
    return session


def start(session: pytest.Session) -> None:
    """Call the plugins' session start hooks; a prepared session has its fixtures already."""
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
        raise RuntimeError("pytest: unsupported version: it parses the command line without loading conftest files")
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
