"""Data loaders, samplers, and random numbers."""

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


@pytest.mark.ranks([1, 2, 3])
def test_the_shards_of_an_epoch_are_the_data_set(rank, world_size, process_group):
    data = TensorDataset(torch.arange(12))
    loader = DataLoader(data, batch_size=2, sampler=DistributedSampler(data, world_size, rank, shuffle=True))
    mine = [number for (batch,) in loader for number in batch.tolist()]
    found = [None] * world_size
    dist.all_gather_object(found, mine, group=process_group)
    assert sorted(number for shard in found for number in shard) == list(range(12))


@pytest.mark.ranks(2)
@pytest.mark.parametrize(("drop_last", "length"), [(True, 3), (False, 4)])
def test_all_ranks_get_as_many_samples(rank, world_size, drop_last, length):
    sampler = DistributedSampler(range(7), world_size, rank, shuffle=False, drop_last=drop_last)
    assert len(list(sampler)) == len(sampler) == length


@pytest.mark.ranks(2)
def test_another_epoch_is_another_order_and_the_same_on_all_ranks(rank, world_size, process_group):
    sampler = DistributedSampler(range(64), world_size, rank, seed=5)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2] != orders[1]
    found = [None] * world_size
    dist.all_gather_object(found, orders[0], group=process_group)
    assert set(found[0]).isdisjoint(found[1])


@pytest.mark.ranks(2)
def test_workers_of_a_loader_belong_to_their_rank(rank, world_size):
    data = TensorDataset(torch.arange(8))
    sampler = DistributedSampler(data, world_size, rank, shuffle=False)
    loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=1)
    assert [batch.tolist() for (batch,) in loader] == [[rank, rank + 2], [rank + 4, rank + 6]]


@pytest.mark.ranks(2)
def test_ranks_with_seeds_of_their_own_draw_different_numbers(rank, world_size, process_group):
    torch.manual_seed(100 + rank)
    found = [torch.empty(4) for _ in range(world_size)]
    dist.all_gather(found, torch.rand(4), group=process_group)
    assert not torch.equal(found[0], found[1])


@pytest.mark.ranks(2)
def test_a_rank_that_takes_over_the_state_of_another_draws_its_numbers(rank, world_size, process_group):
    torch.manual_seed(100 + rank)
    state = torch.get_rng_state()
    dist.broadcast(state, src=1, group=process_group)
    torch.set_rng_state(state)
    found = [torch.empty(4) for _ in range(world_size)]
    dist.all_gather(found, torch.rand(4), group=process_group)
    assert torch.equal(found[0], found[1])
