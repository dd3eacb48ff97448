"""Fixtures of a test on ranks: which ones the controller sets up once, and how ranks receive their values.

Once: fixtures of a wider scope than "function", and ``tmp_path``, so that the ranks of a job share one directory. In
each rank: all others; pytest's own; setup_module and similar, because their purpose is their effect on the process; and
those named by the test or the ini file, which may be all.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.protocol import EVERY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

SHARED = frozenset({"tmp_path"})
OWN_IN_EACH_RANK = ("_pytest", "anyio", "pytest_asyncio", "pytest_cov", "pytest_timeout")
"""Packages with fixtures that belong to a process, not to a test: pytest itself, and plugins that keep event loops."""

XUNIT = ("_xunit_", "_unittest_")


class Problem(str):
    """Reason why a value could not be pickled, or unpickled."""

    __slots__ = ()


def shared_fixtures(item: pytest.Function, in_ranks: Collection[str]) -> Iterator[str]:
    """Yield the names of the fixtures of a test that are set up once, in the order in which pytest sets them up."""
    for name in item.fixturenames:
        defs = item._fixtureinfo.name2fixturedefs.get(name)  # noqa: SLF001 - there is no other way to get scopes
        if defs and is_shared(defs[-1], in_ranks):
            yield name


def is_shared(fixture: pytest.FixtureDef[Any], in_ranks: Collection[str]) -> bool:
    """Return whether a fixture is set up once for all ranks."""
    name = fixture.argname
    if EVERY in in_ranks:
        return False
    if name in SHARED:
        return True
    own = getattr(fixture.func, "__module__", "").partition(".")[0] in OWN_IN_EACH_RANK
    return fixture.scope != "function" and not own and not name.startswith(XUNIT) and name not in in_ranks


def pack(item: pytest.Function, values: Mapping[str, object]) -> dict[str, bytes]:
    """Pickle the values for the ranks.

    Raises:
        Failed: if a value cannot be pickled; the message names the fixture and the remedies.
    """
    packed = {}
    for name, value in values.items():
        data = _try(pickle.dumps, value)
        if isinstance(data, Problem):
            fixture = item._fixtureinfo.name2fixturedefs[name][-1]  # noqa: SLF001
            pytest.fail(
                f"fixture {name!r} (scope {fixture.scope!r}, {_place(fixture)}): its value, of type "
                f"{type(value).__qualname__}, cannot be pickled for the ranks: {data}.\nThe fixture is set up once, in "
                "the process that runs pytest. Let it return what ranks need to find the object (an address, a path); "
                "or have each rank set it up: give it the scope 'function', or write "
                f"ranks(..., in_ranks=[{name!r}]), or derail_fixtures_in_ranks = {name} in the ini file",
                pytrace=False,
            )
        packed[name] = data
    return packed


def place(item: pytest.Function, packed: Mapping[str, bytes]) -> None:
    """In a rank: make the fixtures return the values from the controller.

    Raises:
        Failed: if a value cannot be unpickled here; the message names the fixture.
    """
    for name, data in packed.items():
        value = _try(pickle.loads, data)
        if isinstance(value, Problem):
            pytest.fail(
                f"fixture {name!r}: its value from the controller cannot be unpickled in a rank: {value}",
                pytrace=False,
            )
        fixture: Any = item._fixtureinfo.name2fixturedefs[name][-1]  # noqa: SLF001
        fixture.func = _giving(value)
        fixture.argnames = ()


def refuse_late(
    fixture: pytest.FixtureDef[Any], request: pytest.FixtureRequest, packed: Collection[str], in_ranks: Collection[str]
) -> None:
    """In a rank: reject a fixture that should have been set up once, and is requested too late for that.

    Raises:
        Failed: for such a fixture; the message names the requested one, which may be a fixture that depends on it.
    """

    def is_late(each: Any) -> bool:
        return each is not None and is_shared(each, in_ranks) and each.argname not in packed

    if is_late(fixture):
        asking: Any = request
        while asking is not None:
            asked: Any = getattr(asking, "_fixturedef", None)
            fixture = asked if is_late(asked) else fixture
            asking = getattr(asking, "_parent_request", None)
        pytest.fail(
            f"fixture {fixture.argname!r} (scope {fixture.scope!r}, {_place(fixture)}): requested after the ranks "
            "started, but it is set up once, before that. The test requests it only while it runs "
            "(request.getfixturevalue), or another fixture of this name overrides it. Name it among the test's "
            f"arguments, or have each rank set it up: ranks(..., in_ranks=[{fixture.argname!r}])",
            pytrace=False,
        )


def _try(run: Callable[[Any], Any], argument: object) -> Any:
    """Return the result of a call, or the problem: pickling runs third-party code."""
    try:
        return run(argument)
    except Exception as error:
        return Problem(f"{type(error).__name__}: {error}")


def _giving(value: object) -> Any:
    def handed_over() -> object:
        return value

    return handed_over


def _place(fixture: pytest.FixtureDef[Any]) -> str:
    code = getattr(fixture.func, "__code__", None)
    return fixture.baseid if code is None else f"{code.co_filename}:{code.co_firstlineno}"
