"""The tests of docs/examples/suite in the two classes that torch has for its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.testing._internal.common_distributed import MultiProcContinuousTest, MultiProcessTestCase

from benchmarks import bodies

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = bodies.cases()


class Spawned(MultiProcessTestCase):
    """Each test on processes of its own."""

    @property
    def world_size(self) -> int:
        return CASES[self._current_test_name()].ranks

    def setUp(self) -> None:
        super().setUp()
        self._spawn_processes()


class Kept(MultiProcContinuousTest):
    """All tests on the same processes, with the same group."""

    folder = Path()
    runs = 0

    @classmethod
    def backend_str(cls) -> str:
        return "gloo"

    @classmethod
    def device_type(cls) -> str:
        return "cpu"

    @classmethod
    def _init_pg(cls, rank: int, world_size: int, rdvz_file: str) -> None:
        cls.folder = Path(rdvz_file + ".d")
        super()._init_pg(rank, world_size, rdvz_file)


def _spawned(case: bodies.Case) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        folder = Path(self.file_name + ".d")
        folder.mkdir(exist_ok=True)
        group = partial(bodies.gloo, self.file_name, self.rank, case.ranks)
        bodies.run(case, rank=self.rank, group=group, directory=folder)

    return test


def _kept(case: bodies.Case) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        kind = type(self)
        kind.runs += 1
        folder = kind.folder / str(kind.runs)
        folder.mkdir(parents=True, exist_ok=True)
        bodies.run(case, rank=self.rank, group=None, directory=folder)

    return test


def class_of_kept(ranks: int) -> type[Kept]:
    """The class for this number of ranks; processes find it in this module."""
    found: type[Kept] = globals()[f"Kept{ranks}"]
    return found


for _case in CASES.values():
    setattr(Spawned, _case.id, _spawned(_case))
for _ranks in sorted({case.ranks for case in CASES.values()}):
    _body = {case.id: _kept(case) for case in CASES.values() if case.ranks == _ranks}
    globals()[f"Kept{_ranks}"] = type(f"Kept{_ranks}", (Kept,), {"world_size": _ranks, "__module__": __name__, **_body})
