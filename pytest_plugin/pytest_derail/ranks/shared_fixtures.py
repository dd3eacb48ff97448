"""Fixtures of a test on ranks: which are set up once, in the controller, and how ranks get their values.

Once: fixtures of a wider scope than "function", and ``tmp_path``, so that the ranks of a job share one directory. In
each rank: all others; pytest's own; setup_module and its like, whose purpose is what they do to the process; and those
that the test or the ini file names.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

SHARED = frozenset({"tmp_path"})
OWN_IN_EACH_RANK = ("_pytest", "anyio", "pytest_asyncio", "pytest_cov", "pytest_timeout")
"""Whose fixtures belong to a process and not to a test: pytest itself, and plugins that keep event loops."""

XUNIT = ("_xunit_", "_unittest_")


class Problem(str):
    """Why something could not be pickled, or unpickled."""

    __slots__ = ()


def shared_fixtures(item: pytest.Function, in_ranks: Collection[str]) -> Iterator[str]:
    """The names of the fixtures of a test that are set up once, in the order in which pytest sets them up."""
    for name in item.fixturenames:
        found = item._fixtureinfo.name2fixturedefs.get(name)  # noqa: SLF001 - there is no other way to know scopes
        if found and is_shared(found[-1], in_ranks):
            yield name


def is_shared(fixture: pytest.FixtureDef[Any], in_ranks: Collection[str]) -> bool:
    """Whether a fixture is set up once for all ranks."""
    name = fixture.argname
    if name in SHARED:
        return True
    own = getattr(fixture.func, "__module__", "").partition(".")[0] in OWN_IN_EACH_RANK
    return fixture.scope != "function" and not own and not name.startswith(XUNIT) and name not in in_ranks


def pack(item: pytest.Function, values: Mapping[str, object]) -> dict[str, bytes]:
    """Pickle what ranks are handed.

    Raises:
        Failed: if a value cannot be; it names the fixture, and says what can be done.
    """
    packed = {}
    for name, value in values.items():
        data = _try(pickle.dumps, value)
        if isinstance(data, Problem):
            fixture = item._fixtureinfo.name2fixturedefs[name][-1]  # noqa: SLF001
            pytest.fail(
                f"the fixture {name!r} (scope {fixture.scope!r}, {_place(fixture)}) cannot be handed to the ranks: it "
                f"gave a {type(value).__qualname__}, and: {data}.\nIt is set up once, in the process that runs pytest. "
                "Let it give what ranks need to find the thing (an address, a path); or have each rank set it up: give "
                f"it the scope 'function', or write ranks(..., in_ranks=[{name!r}]), or derail_fixtures_in_ranks = "
                f"{name} in the ini file",
                pytrace=False,
            )
        packed[name] = data
    return packed


def place(item: pytest.Function, packed: Mapping[str, bytes]) -> None:
    """In a rank: make the fixtures give what was handed over.

    Raises:
        Failed: if a value cannot be unpickled here; it names the fixture.
    """
    for name, data in packed.items():
        value = _try(pickle.loads, data)
        if isinstance(value, Problem):
            pytest.fail(
                f"what the fixture {name!r} gave in the controller cannot be made again in a rank: {value}",
                pytrace=False,
            )
        fixture: Any = item._fixtureinfo.name2fixturedefs[name][-1]  # noqa: SLF001
        fixture.func = _giving(value)
        fixture.argnames = ()


def refuse_late(
    fixture: pytest.FixtureDef[Any], request: pytest.FixtureRequest, packed: Collection[str], in_ranks: Collection[str]
) -> None:
    """In a rank: a fixture that should have been set up once, and was asked for too late for that, is an error.

    Raises:
        Failed: if it is one; it names the fixture that was asked for, which may be one that depends on this one.
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
            f"the fixture {fixture.argname!r} (scope {fixture.scope!r}, {_place(fixture)}) is set up once, before the "
            "ranks start, and the test asks for it only while it runs (request.getfixturevalue), or another fixture of "
            "this name covers it. Name it among the test's arguments, or have each rank set it up: "
            f"ranks(..., in_ranks=[{fixture.argname!r}])",
            pytrace=False,
        )


def _try(run: Callable[[Any], Any], argument: object) -> Any:
    """What it returns, or why it does not: pickling runs the code of others."""
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
