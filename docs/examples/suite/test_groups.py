"""Groups of some of the ranks, and the store behind them."""

import pytest
import torch
import torch.distributed as dist


@pytest.mark.ranks(4)
@pytest.mark.usefixtures("process_group")
def test_even_and_odd_ranks_add_up_for_themselves(rank, world_size):
    groups = [dist.new_group(list(range(first, world_size, 2))) for first in (0, 1)]  # every rank makes both
    tensor = torch.tensor([rank])
    dist.all_reduce(tensor, group=groups[rank % 2])
    assert tensor.item() == (0 + 2, 1 + 3)[rank % 2]


@pytest.mark.ranks(4)
@pytest.mark.usefixtures("process_group")
def test_subgroups_of_a_node_know_their_ranks(rank):
    mine, all_of_them = dist.new_subgroups(group_size=2)
    assert len(all_of_them) == 2
    assert dist.get_process_group_ranks(mine) == ([0, 1] if rank < 2 else [2, 3])
    assert dist.get_group_rank(mine, rank) == rank % 2


@pytest.mark.ranks(3)
@pytest.mark.usefixtures("process_group")
def test_a_rank_outside_has_no_number_in_a_group(rank):
    group = dist.new_group([0, 2])
    assert dist.get_rank(group) == {0: 0, 1: -1, 2: 1}[rank]


@pytest.mark.ranks(2)
def test_ranks_count_together_in_a_store(rank, world_size, tmp_path):
    store = dist.PrefixStore("count", dist.FileStore(str(tmp_path / "store"), world_size))
    for _ in range(10):
        store.add("steps", 1)
    store.set(f"done-{rank}", "yes")
    store.wait([f"done-{number}" for number in range(world_size)])
    assert store.add("steps", 0) == 10 * world_size
