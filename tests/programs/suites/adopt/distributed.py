"""Tests of the shape of DeepSpeed's."""

import os

import pytest
import torch
import torch.distributed as dist
from common import DistributedFixture, DistributedTest

HANGS = False
LOG = os.environ.get("SUITE_LOG", os.devnull)


def summed(value):
    tensor = torch.tensor(float(value))
    dist.all_reduce(tensor)
    return tensor.item()


class TestSums(DistributedTest):
    world_size = 2

    @pytest.mark.parametrize("value", [1.0, 2.0, 3.0])
    def test_sum(self, value):
        assert summed(value) == 2 * value

    def test_ranks(self):
        assert summed(dist.get_rank()) == 1

    def test_environment(self):
        assert os.environ["RANK"] == str(dist.get_rank())
        assert os.environ["LOCAL_SIZE"] == "2"

    @pytest.mark.world_size(3)
    def test_another_size(self):
        assert dist.get_world_size() == 3

    def test_fails(self):
        assert dist.get_rank() == 0, "only the first"

    def test_skips(self):
        pytest.skip("not on this machine")

    @pytest.mark.skip(reason="never")
    def test_never(self):
        raise AssertionError

    @pytest.mark.xfail(strict=True)
    def test_expected(self):
        assert dist.get_world_size() == 5

    def test_temporary_directory_is_shared(self, tmp_path):
        (tmp_path / str(dist.get_rank())).touch()
        dist.barrier()
        assert {"0", "1"} <= {path.name for path in tmp_path.iterdir()}


class TestSizes(DistributedTest):
    world_size = [1, 2]

    def test_each(self):
        assert summed(1) == dist.get_world_size()


class TestReuse(DistributedTest):
    world_size = 2
    reuse_dist_env = True
    groups = []

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_group_stays(self, number):
        self.groups.append(dist.group.WORLD)
        assert self.groups == [dist.group.WORLD] * len(self.groups)
        assert summed(1) == 2
        with open(LOG, "a") as file:
            file.write(f"{os.getpid()}\n")

    def test_skips_on_reused(self):
        pytest.skip("reused")

    def test_after_the_skip(self):
        assert summed(1) == 2


class TestOwnProcesses(DistributedTest):
    world_size = 2
    non_daemonic_procs = True

    def test_sum(self):
        assert summed(1) == 2

    def test_skips(self):
        pytest.skip("by the queue")


class Checkpoint(DistributedFixture):
    world_size = 3

    @classmethod
    def launch(cls, request):
        cls()(request)

    def run(self, tmpdir):
        tmpdir.join(f"part-{dist.get_rank()}").write("part")

    def __call__(self, request):
        super().__call__(request)
        return self


def fixture():
    """Is replaced by the launch of its class."""


fixture.is_dist_fixture, fixture.launch = True, Checkpoint.launch
checkpoint = pytest.fixture(fixture, name="checkpoint")


class TestFromCheckpoint(DistributedTest):
    world_size = 2

    def test_has_all_parts(self, checkpoint, tmpdir):
        assert len(tmpdir.listdir("part-*")) == 3


class TestHang(DistributedTest):
    world_size = 2
    exec_timeout = 4

    @pytest.mark.skipif(not HANGS, reason="only with HANGS")
    def test_hangs(self):
        if dist.get_rank() == 1:
            dist.barrier()

    def test_after_the_hang(self):
        assert summed(1) == 2
