"""Arguments of ``@pytest.mark.ranks``: number of ranks, time limit, start method, reuse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_derail.markers import misfit, near
from pytest_derail.options import launcher, preload, seconds, start_method
from pytest_derail.protocol import ON_RANKS, PARAMETER
from pytest_derail.shapes import REMEDY, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_derail.jobs.leaks import RankFiles


SCOPES = ("module", "session")
MARKS = ("ranks", "faults")
ARGUMENTS = ("timeout", "start_method", "preload", "in_ranks", "reuse")


@dataclass(frozen=True, slots=True)
class RanksMark:
    """Marker of one test, combined with command line, environment and ini file.

    Attributes:
        ranks: number of ranks; 0 if the test runs in the process that runs pytest.
        timeout: time limit of the test on its ranks, in seconds.
        grace: seconds from SIGTERM to SIGKILL.
        start_method: how the rank processes are created.
        preload: modules already imported in warm ranks; None for those that the test's module imports.
        in_ranks: fixtures that each rank sets up although their scope is wider than "function"; ``EVERY`` for all.
        reuse: which tests share the ranks: those of a "class" (only if it is adopted), of a "module" or of the
            "session"; None for this test only.
        own_files: whether ranks have a separate temporary directory, and files that they leave in it are failures.
        launcher: command line of the launcher that places the ranks; empty if derail does.
    """

    ranks: int
    timeout: float
    grace: float
    start_method: str
    preload: tuple[str, ...] | None
    in_ranks: tuple[str, ...]
    reuse: str | None
    own_files: bool = True
    launcher: tuple[str, ...] = ()

    def environment(self, files: RankFiles) -> dict[str, str]:
        """Return the variables that point ranks to their temporary directory."""
        return files.environment() if self.own_files else {}


def read_mark(item: pytest.Item, mark: pytest.Mark) -> RanksMark:
    """Return the marker of a test.

    Raises:
        UsageError: if the marker or a setting has an invalid value.
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
            f"{item.nodeid}: @pytest.mark.ranks: reuse: expected one of {SCOPES}, got {reuse!r}{near(reuse, SCOPES)}"
        )
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.ranks: timeout: expected a number of seconds above 0, got {timeout!r}"
        )
    command = launcher(config, ranks)
    if command and item.get_closest_marker("faults") is not None:
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.faults: expected ranks that derail starts, got --derail-launcher; start the "
            "job by derail.agent() to break it under that launcher"
        )
    return RanksMark(
        ranks=ranks,
        launcher=command,
        timeout=seconds(config, "timeout") if timeout is None else float(timeout),
        grace=seconds(config, "grace"),
        start_method=start_method(config, options["start_method"], source="@pytest.mark.ranks(start_method=)"),
        preload=preload(config, _names(item, options["preload"])),
        reuse=reuse or ("module" if command else None),  # each start of the launcher makes a new world
        in_ranks=(*options["in_ranks"], *config.getini("derail_fixtures_in_ranks")),
    )


def check(metafunc: pytest.Metafunc) -> None:
    """Check the markers of a collected test, and report those that are missing.

    Raises:
        Failed: if a marker is wrong or misspelt. pytest reports this as a collection error.
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
    if needing and problem:  # else the marker may come from a parameter, or a hook may add it
        problem = f"{problem}\nthe `{needing}` fixture needs @pytest.mark.ranks(n)".strip()
    if problem:
        pytest.fail(problem, pytrace=False)


def _misspelt(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """Yield each undeclared marker of a test with a name that resembles one of ours, with the marker that was meant."""
    for name in dict.fromkeys(mark.name for mark in item.iter_markers()):
        meant = [mark for mark in MARKS if name not in MARKS and abs(len(name) - len(mark)) <= 1 and near(name, [mark])]
        if meant:
            declared = {line.partition(":")[0].partition("(")[0].strip() for line in item.config.getini("markers")}
            if name not in declared:
                yield name, meant[0]


def _needs_ranks(metafunc: pytest.Metafunc) -> str:
    """Return the first rank-only fixture that a test requests and no fixture overrides; empty if there is none."""
    for name in metafunc.fixturenames:
        defs = metafunc.definition._fixtureinfo.name2fixturedefs.get(name)  # noqa: SLF001 - there is no other way
        if name in ON_RANKS and defs and getattr(defs[-1].func, "__module__", "") == "pytest_derail.plugin":
            return name
    return ""


def wrong_markers(item: pytest.Item) -> str:
    """Return the problem with the markers of a test; empty if there is none."""
    mark = item.get_closest_marker("ranks")
    try:
        if mark is not None:
            read_mark(item, mark)
            shape = shape_of(getattr(item, "cls", None))
            if shape is not None and not item.config.pluginmanager.hasplugin("pytest_derail.adopt"):
                return (
                    f"{item.nodeid}: @pytest.mark.ranks on a {shape}, which starts processes of its own: each of the "
                    f"ranks would start them again; {REMEDY}"
                )
        if item.get_closest_marker("faults") is not None:
            from pytest_derail.faults_marker import marked_plan

            marked_plan(item)
    except pytest.UsageError as error:
        return str(error)
    return ""


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Make one test for each number of ranks in the marker's list."""
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
            f"{item.nodeid}: @pytest.mark.ranks: preload: expected a list of module names, got {modules!r}"
        )
    return [str(name) for name in modules]


def _counts(item: pytest.Item, ranks: object) -> Iterator[int]:
    listed = ranks if isinstance(ranks, list | tuple | range) else [ranks]
    if not listed:
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.ranks: the list of numbers of ranks is empty")
    least = 0 if ranks == 0 else 1
    for count in listed:
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.ranks: expected a number of ranks of 1 or more, or a list of them, "
                f"got {ranks!r}"
            )
        yield count
