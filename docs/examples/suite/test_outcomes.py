"""Skips and expected failures, on all ranks and on one."""

import pytest
import torch
import torch.distributed as dist


@pytest.mark.ranks(2)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_all_reduce_on_gpus(rank):
    torch.ones(1, device=f"cuda:{rank}")


@pytest.mark.ranks(2)
def test_a_library_that_is_not_installed_skips_the_test():
    pytest.importorskip("no_such_library_of_kernels")


@pytest.mark.ranks(2)
def test_one_rank_may_skip_for_all(rank):
    if rank == 1:
        pytest.skip("rank 1 has no accelerator")


@pytest.mark.ranks(2)
@pytest.mark.xfail(raises=ZeroDivisionError, reason="a known bug, on the last rank only")
def test_a_known_bug_on_one_rank(rank, world_size):
    assert 1 / (world_size - 1 - rank) > 0


@pytest.mark.ranks(2)
def test_a_group_is_there_only_where_it_is_asked_for():
    assert not dist.is_initialized()
