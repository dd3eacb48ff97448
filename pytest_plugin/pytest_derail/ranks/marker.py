"""What ``@pytest.mark.ranks`` says: how many ranks, how long, and how they are started."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.markers import misfit, near
from pytest_derail.options import preload, seconds, start_method
from pytest_derail.protocol import ON_RANKS, PARAMETER

if TYPE_CHECKING:
    from collections.abc import Iterator


SCOPES = ("module", "session")
MARKS = ("ranks", "faults")
ARGUMENTS = ("timeout", "start_method", "preload", "in_ranks", "reuse")


@dataclass(frozen=True, slots=True)
class RanksMark:
    """The marker of one test, with what the command line, the environment and the ini file say besides.

    Attributes:
        ranks: how many.
        timeout: seconds that the test may take on them.
        grace: seconds from SIGTERM to SIGKILL.
        start_method: how their processes are made.
        preload: modules that warm ranks find imported; None for those that the test's module imports.
        in_ranks: fixtures that each rank sets up although their scope is wider than "function".
        reuse: what the ranks are kept for: the tests of a "module", or of the "session"; None for the one test.
    """

    ranks: int
    timeout: float
    grace: float
    start_method: str
    preload: tuple[str, ...] | None
    in_ranks: tuple[str, ...]
    reuse: str | None


def read_mark(item: pytest.Item, mark: pytest.Mark) -> RanksMark:
    """The marker of a test.

    Raises:
        UsageError: if it, or a setting, says something that cannot be.
    """
    config = item.config
    try:
        chosen, options = _arguments(*mark.args, **mark.kwargs)
    except TypeError as error:
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.ranks: {misfit(error, mark, ARGUMENTS)}") from None
    counts = list(_counts(item, chosen))
    callspec = getattr(item, "callspec", None)
    ranks = callspec.params[PARAMETER] if callspec is not None and PARAMETER in callspec.params else counts[0]
    timeout, reuse = options["timeout"], options["reuse"]
    if reuse not in (None, *SCOPES):
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.ranks: reuse is {reuse!r}; it must be one of {SCOPES}{near(reuse, SCOPES)}"
        )
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.ranks: timeout is {timeout!r}; give seconds, more than 0")
    return RanksMark(
        ranks=ranks,
        timeout=seconds(config, "timeout") if timeout is None else float(timeout),
        grace=seconds(config, "grace"),
        start_method=start_method(config, options["start_method"], source="@pytest.mark.ranks(start_method=)"),
        preload=preload(config, _names(item, options["preload"])),
        reuse=reuse,
        in_ranks=(*options["in_ranks"], *config.getini("derail_fixtures_in_ranks")),
    )


def check(metafunc: pytest.Metafunc) -> None:
    """Look at the markers of a test when it is collected, and at those that it lacks.

    Raises:
        Failed: if one of them is wrong or misspelt. That is an error of the collection.
    """
    item = metafunc.definition
    on_ranks, uses_derail = item.get_closest_marker("ranks") is not None, "derail" in metafunc.fixturenames
    problem = wrong_markers(item)
    needing = "" if on_ranks else _needs_ranks(metafunc)
    for name, meant in _misspelt(item):
        hint = f"{item.nodeid}: unknown marker '{name}'; did you mean @pytest.mark.{meant}?"
        if problem or needing or (meant == "faults" and (on_ranks or uses_derail)):
            problem = f"{hint}\n{problem}".strip()
        else:
            item.warn(pytest.PytestWarning(hint))
    if needing and problem:  # else the marker may be a parameter's, or a hook may add it
        problem = f"{problem}\nthis is there only in tests with @pytest.mark.ranks(n): {needing}".strip()
    if problem:
        pytest.fail(problem, pytrace=False)


def _misspelt(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """Yield each undeclared marker of a test whose name resembles one of ours, with the marker that was meant."""
    for name in dict.fromkeys(mark.name for mark in item.iter_markers()):
        meant = [mark for mark in MARKS if name not in MARKS and abs(len(name) - len(mark)) <= 1 and near(name, [mark])]
        if meant:
            known = {line.partition(":")[0].partition("(")[0].strip() for line in item.config.getini("markers")}
            if name not in known:
                yield name, meant[0]


def _needs_ranks(metafunc: pytest.Metafunc) -> str:
    """The first fixture of ranks that a test asks for, and that no other fixture covers; empty if it asks for none."""
    for name in metafunc.fixturenames:
        found = metafunc.definition._fixtureinfo.name2fixturedefs.get(name)  # noqa: SLF001 - there is no other way
        if name in ON_RANKS and found and getattr(found[-1].func, "__module__", "") == "pytest_derail.plugin":
            return name
    return ""


def wrong_markers(item: pytest.Item) -> str:
    """What is wrong with the markers of a test; empty if nothing is."""
    mark = item.get_closest_marker("ranks")
    try:
        if mark is not None:
            read_mark(item, mark)
        if item.get_closest_marker("faults") is not None:
            from pytest_derail.faults_marker import marked_plan

            marked_plan(item)
    except pytest.UsageError as error:
        return str(error)
    return ""


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Make a test of each number in the list of a marker."""
    mark = metafunc.definition.get_closest_marker("ranks")
    if mark is None or not mark.args or isinstance(mark.args[0], int):
        return
    counts = list(_counts(metafunc.definition, mark.args[0]))
    metafunc.fixturenames.append(PARAMETER)
    metafunc.parametrize(PARAMETER, counts, indirect=True, ids=[f"ranks={count}" for count in counts])


def _arguments(
    ranks: Any,
    *,
    timeout: Any = None,
    start_method: str | None = None,
    preload: Any = None,
    in_ranks: Any = (),
    reuse: Any = None,
) -> tuple[Any, dict[str, Any]]:
    options = {"timeout": timeout, "start_method": start_method, "preload": preload, "in_ranks": in_ranks}
    return ranks, {**options, "reuse": reuse}


def _names(item: pytest.Item, modules: object) -> list[str] | None:
    if modules is None:
        return None
    if isinstance(modules, str) or not isinstance(modules, Iterable):
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.ranks: preload is {modules!r}; give a list of modules' names"
        )
    return [str(name) for name in modules]


def _counts(item: pytest.Item, ranks: object) -> Iterator[int]:
    listed = ranks if isinstance(ranks, list | tuple | range) else [ranks]
    if not listed:
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.ranks has an empty list")
    for count in listed:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.ranks({ranks!r}): give a number of ranks, 1 or more, or a list of such"
            )
        yield count
