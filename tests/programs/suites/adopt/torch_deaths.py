"""Deaths of ranks in torch's MultiProcessTestCase; ``ONLY`` has the ids of those to run."""

import os
from pathlib import Path

from torch.testing._internal import common_distributed

from plugin.ranks.deaths import ALL, RANKS, body

ONLY = []


class TestDeaths(common_distributed.MultiProcessTestCase):
    world_size = RANKS

    def setUp(self):
        super().setUp()
        Path(self.file_name + ".d").mkdir()
        self._spawn_processes()

    def tearDown(self):
        super().tearDown()
        for path in Path(self.file_name + ".d").iterdir():
            path.unlink()
        Path(self.file_name + ".d").rmdir()


def make(death):
    def test(self):
        body(death, self.rank, Path(self.file_name + ".d"))

    return test


for death in ALL:
    if death.id in ONLY or not ONLY:
        name = "test_" + death.id.replace("-", "_")
        setattr(TestDeaths, name, make(death))
        if death.die == "hang_in_c":
            common_distributed.TIMEOUT_OVERRIDE[name] = 5


def test_another():
    assert os.environ.get("RANK") is None
