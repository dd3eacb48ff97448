"""The tests of docs/examples/suite as plain calls: the same bodies and fixtures, for harnesses other than pytest."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SUITE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "suite"
PRELOAD = ("torch", "torch._dynamo", "torch.distributed.checkpoint", "torch.utils.data")
"""What the suite's pytest.ini preloads."""

GROUP = "process_group"


@dataclass(frozen=True, slots=True)
class Case:
    """One test of the suite.

    Attributes:
        module: where its body is.
        name: of the function.
        number: which of its parameter sets.
        ranks: on how many ranks it runs.
        parameters: what ``parametrize`` gives it.
    """

    module: str
    name: str
    number: int
    ranks: int
    parameters: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Name and number."""
        return f"{self.name}_{self.number}"


def cases() -> dict[str, Case]:
    """Every test that is not skipped before it runs, by id."""
    found = (
        case
        for file in sorted(SUITE.glob("test_*.py"))
        for name, function in vars(load(file.stem)).items()
        if name.startswith("test_")
        for case in _of(file.stem, name, function)
    )
    return {case.id: case for case in found}


def load(module: str) -> Any:
    """A module of the suite; as pytest does it, its folder is where it can import from."""
    if str(SUITE) not in sys.path:
        sys.path.insert(0, str(SUITE))
    return importlib.import_module(module)


def _of(module: str, name: str, function: Any) -> Iterator[Case]:
    marks: dict[str, list[pytest.Mark]] = {}
    for mark in getattr(function, "pytestmark", []):
        marks.setdefault(mark.name, []).append(mark)
    if any(mark.args[0] for mark in marks.get("skipif", [])):
        return
    listed = marks["ranks"][0].args[0]
    sets = _sets(*marks["parametrize"][0].args) if "parametrize" in marks else [{}]
    ranks = listed if isinstance(listed, list) else [listed]
    assert len(ranks) == 1 or len(sets) == 1, "the order of the product is pytest's own"
    for number, (count, given) in enumerate((count, given) for given in sets for count in ranks):
        yield Case(module, name, number, count, given)


def _sets(names: str | tuple[str, ...], values: list[Any]) -> list[dict[str, Any]]:
    if isinstance(names, str):
        return [{names: value} for value in values]
    return [dict(zip(names, value, strict=True)) for value in values]


def run(case: Case, *, rank: int, group: Callable[[], Any] | None, directory: Path) -> str:
    """Run the body of a case in this process, which is one of its ranks.

    Args:
        case: which.
        rank: the number of this rank.
        group: opens the process group if the case wants one, and gives a context; None: it is open already.
        directory: for all ranks of the case.

    Returns:
        "passed", "skipped" or "xfailed".
    """
    module = load(case.module)
    function = getattr(module, case.name)
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": case.ranks}.items():
        os.environ[name] = os.environ[name.replace("WORLD", "LOCAL_WORLD")] = str(value)
    expected = [mark.kwargs["raises"] for mark in function.pytestmark if mark.name == "xfail"]
    with ExitStack() as stack:
        fixtures = _Fixtures(stack, module, {**case.parameters, "rank": rank, "world_size": case.ranks}, directory)
        if wants_group(case):
            fixtures.known[GROUP] = stack.enter_context(_open_already() if group is None else group())
        arguments = {name: fixtures.value(name) for name in inspect.signature(function).parameters}
        try:
            function(**arguments)
        except pytest.skip.Exception:
            return "skipped"
        except tuple(expected):
            return "xfailed"
    return "passed"


def wants_group(case: Case) -> bool:
    """Whether a case asks for the process group."""
    function = getattr(load(case.module), case.name)
    used = [name for mark in function.pytestmark if mark.name == "usefixtures" for name in mark.args]
    return GROUP in [*used, *inspect.signature(function).parameters]


class _Fixtures:
    """The values of fixtures in one rank; those of wider scope are made here too, and not handed over."""

    def __init__(self, stack: ExitStack, module: Any, known: dict[str, Any], directory: Path) -> None:
        self.known = known
        self._stack, self._module, self._directory = stack, module, directory

    def value(self, name: str) -> Any:
        """What the fixture gives: pytest's own of this name, or one of the module or of the conftest."""
        if name not in self.known:
            self.known[name] = self._make(name)
        return self.known[name]

    def _make(self, name: str) -> Any:
        if name == "tmp_path":
            return self._directory
        if name == "tmp_path_factory":
            return _Folders(self._directory / f"of-rank-{self.known['rank']}")
        if name == "monkeypatch":
            return self._stack.enter_context(pytest.MonkeyPatch.context())
        home = self._module if hasattr(self._module, name) else load("conftest")
        function = getattr(home, name)._get_wrapped_function()
        arguments = {each: self.value(each) for each in inspect.signature(function).parameters}
        return function(**arguments)


class _Folders:
    """As much of pytest's factory as the suite uses."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def mktemp(self, name: str) -> Path:
        """A new folder."""
        folder = self._directory / name
        folder.mkdir(parents=True)
        return folder


def run_alone(case: Case, rank: int, directory: Path) -> None:
    """A rank that runs a case with a group of its own."""
    run(case, rank=rank, group=partial(gloo, directory / "store", rank, case.ranks), directory=directory)


@contextmanager
def _open_already() -> Iterator[Any]:
    import torch.distributed as dist

    yield dist.group.WORLD


@contextmanager
def gloo(store: Path, rank: int, ranks: int) -> Iterator[Any]:
    """The default process group, over a file, for as long as the context."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    try:
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()
