"""Hypothesis on ranks: all ranks draw the same values, so that their collectives match.

- Each rank draws from the seed of its job, unless the test, its settings or the command line specify one.
- No rank writes to the example database while another may read it. When the job is over, the controller saves the
  examples that ranks saved, and deletes those that all ranks deleted.
- A rank in which an example fails shrinks nothing, because it would run the body without the others. Examples have no
  deadline, since a rank waits for the slowest one. Settings that the test has changed itself stay.
"""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pytest

    from pytest_derail.ranks.phase_reports import RankRecord
    from pytest_derail.ranks.worker.write_through import Note

FIXED = frozenset({"rank", "local_rank", "world_size", "process_group"})
"""Fixtures that are the same for all examples of a test, though function-scoped."""

SETTINGS = "_hypothesis_internal_use_settings"
"""Attribute in which Hypothesis keeps the settings of a test."""


def is_given(item: pytest.Item) -> bool:
    """Return whether Hypothesis draws the arguments of a test."""
    return bool(getattr(getattr(item, "obj", None), "is_hypothesis_test", False)) and "hypothesis" in sys.modules


@contextmanager
def draw_alike(item: pytest.Function, seed: str, note: Note) -> Iterator[None]:
    """In a rank: while the body of a test runs, make Hypothesis draw the same values as in the other ranks."""
    core: Any = sys.modules.get("hypothesis.core")
    if core is None:
        yield
        return
    where = getattr(core, "threadlocal", core)
    before = getattr(where, "_hypothesis_global_random", None)
    where._hypothesis_global_random = random.Random(f"{seed} {item.nodeid}")  # noqa: SLF001
    holder, name = _place_of_settings(item)
    settings = getattr(holder, name, None) if is_given(item) else None
    if settings is not None:
        setattr(holder, name, _settings_on_ranks(item, settings, note))
    try:
        yield
    finally:
        where._hypothesis_global_random = before  # noqa: SLF001
        if settings is not None:
            setattr(holder, name, settings)


def _place_of_settings(item: pytest.Function) -> tuple[Any, str]:
    """Return where the settings of a test are: an object and an attribute name; for state machines, their class."""
    function = getattr(item.obj, "__func__", item.obj)
    return (function, SETTINGS) if hasattr(function, SETTINGS) else (item.cls, "settings")


def _settings_on_ranks(item: pytest.Function, settings: Any, note: Note) -> Any:
    from hypothesis import HealthCheck, Phase
    from hypothesis import settings as make_settings

    changes: dict[str, Any] = {}
    suppressed = {*settings.suppress_health_check, HealthCheck.too_slow}
    if not _names_per_example(item) - FIXED:
        suppressed.add(HealthCheck.function_scoped_fixture)
    default: Any = make_settings.default
    if settings.phases == default.phases:
        changes["phases"] = [phase for phase in settings.phases if phase not in (Phase.shrink, Phase.explain)]
    if settings.deadline == default.deadline:
        changes["deadline"] = None
    if settings.database is not None:
        changes["database"] = _database_on_ranks(settings.database, note)
    return make_settings(settings, suppress_health_check=list(suppressed), **changes)


def _names_per_example(item: pytest.Function) -> set[str]:
    """Return the arguments of a test that are function-scoped fixtures; Hypothesis warns about those."""
    manager: Any = item.session._fixturemanager  # noqa: SLF001 - there is no other way to get scopes
    info = manager.getfixtureinfo(node=item, func=item.function, cls=None)  # without the parametrized arguments
    defined = info.name2fixturedefs
    return {name for name in info.argnames if name in defined and defined[name][-1].scope == "function"}


def _database_on_ranks(database: Any, note: Note) -> Any:
    from hypothesis.database import ExampleDatabase

    class DatabaseOfRank(ExampleDatabase):
        """Database that reads from the test's database, and records writes."""

        def __init__(self) -> None:
            super().__init__()
            self._values: dict[bytes, set[bytes]] = {}

        def fetch(self, key: bytes) -> Iterable[bytes]:
            if key not in self._values:
                self._values[key] = set(database.fetch(key))
            return sorted(self._values[key])  # the order of a set differs between processes

        def save(self, key: bytes, value: bytes) -> None:
            self.fetch(key)
            self._values[key].add(bytes(value))
            note("example", "save", bytes(key), bytes(value))

        def delete(self, key: bytes, value: bytes) -> None:
            self.fetch(key)
            self._values[key].discard(bytes(value))
            note("example", "delete", bytes(key), bytes(value))

    return DatabaseOfRank()


def keep_examples(item: pytest.Function, records: Mapping[int, RankRecord]) -> None:
    """In the controller: save examples that a rank has saved, and delete those that all ranks have deleted."""
    database = getattr(getattr(*_place_of_settings(item), None), "database", None)
    if database is None:
        return
    last: list[dict[tuple[bytes, bytes], str]] = [
        {(key, value): action for action, key, value in rank.examples} for rank in records.values()
    ]
    for key, value in sorted({example for rank in last for example in rank}):
        actions = [rank.get((key, value)) for rank in last]
        if "save" in actions:
            database.save(key, value)
        elif set(actions) == {"delete"}:
            database.delete(key, value)


def without_draws(item: pytest.Function) -> Any:
    """In the controller: return a substitute for the body, so that Hypothesis's plugin does not draw; ranks do."""

    def body() -> None:
        """Do nothing: the body runs on the ranks."""

    inner = getattr(getattr(item.obj, "hypothesis", None), "inner_test", None)
    if inner is not None:
        body.__wrapped__ = inner  # type: ignore[attr-defined] # for its source location
    return body
