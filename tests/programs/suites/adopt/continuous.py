"""A class of continuous tests, without torch."""

import os
import sys
from pathlib import Path

from torch.testing._internal.common_distributed import TEST_SKIPS, MultiProcContinuousTest

LOG = Path(os.environ["SUITE_LOG"])


class TestContinuous(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def _init_pg(cls, rank, world_size, rdvz_file):
        with LOG.open("a") as file:
            file.write(f"{rank} of {world_size}\n")
        cls.met = rdvz_file

    def test_a_has_its_rank(self):
        assert self.rank in (0, 1)
        assert "RANK" not in os.environ

    def test_b_in_the_same_process(self):
        assert self.met
        assert self.world_size == 2

    def test_c_skips(self):
        sys.exit(TEST_SKIPS["no_cuda"].exit_code)

    def test_d_after_a_skip(self):
        pass

    def test_e_fails(self):
        assert self.rank == 0

    def test_f_is_skipped(self):
        raise AssertionError
