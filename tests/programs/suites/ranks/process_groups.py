"""Collectives of torch's default group."""

import pytest


@pytest.mark.ranks([1, 2])
def test_all_reduce(rank, world_size, process_group):
    import torch

    tensor = torch.tensor(float(rank))
    torch.distributed.all_reduce(tensor, group=process_group)
    assert tensor == sum(range(world_size))


@pytest.fixture
def after(request):
    yield
    import torch

    assert not torch.distributed.is_initialized()


@pytest.mark.ranks(2)
def test_one_fails(after, process_group, rank):
    import torch

    if rank == 1:
        raise ValueError("only here")
    torch.distributed.barrier()
