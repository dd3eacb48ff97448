"""The body of ``collective`` in torch's own class for such tests."""

from __future__ import annotations

from torch.testing._internal.common_distributed import MultiProcessTestCase

from benchmarks.collective import RANKS, all_reduce


class AllReduce(MultiProcessTestCase):
    """One test on some ranks, each a spawned process."""

    @property
    def world_size(self) -> int:
        return RANKS

    def setUp(self) -> None:
        super().setUp()
        self._spawn_processes()

    def test_all_reduce(self) -> None:
        """The sum of all ranks."""
        assert all_reduce(self.rank, self.world_size, self.file_name) == sum(range(RANKS))
