"""The collectives of torch.distributed, as each rank sees them."""

import datetime as dt

import pytest
import torch
import torch.distributed as dist


@pytest.mark.ranks(4)
def test_all_reduce_adds_what_the_ranks_have(rank, world_size, process_group):
    tensor = torch.full((8,), float(rank))
    dist.all_reduce(tensor, group=process_group)
    assert tensor.tolist() == [sum(range(world_size))] * 8


@pytest.mark.ranks(2)
@pytest.mark.parametrize(
    ("operation", "expected"),
    [(dist.ReduceOp.MIN, 1), (dist.ReduceOp.MAX, 2), (dist.ReduceOp.PRODUCT, 2)],
    ids=["min", "max", "product"],
)
def test_all_reduce_with_another_operation(rank, process_group, operation, expected):
    tensor = torch.tensor([rank + 1])
    dist.all_reduce(tensor, op=operation, group=process_group)
    assert tensor.item() == expected


@pytest.mark.ranks(3)
def test_reduce_gives_the_sum_to_one_rank(rank, process_group):
    tensor = torch.tensor([10**rank])
    dist.reduce(tensor, dst=1, group=process_group)
    if rank == 1:
        assert tensor.item() == 111


@pytest.mark.ranks(2)
def test_broadcast_from_each_rank_in_turn(rank, world_size, process_group):
    for source in range(world_size):
        tensor = torch.arange(5) if rank == source else torch.zeros(5, dtype=torch.int64)
        dist.broadcast(tensor, src=source, group=process_group)
        assert tensor.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.ranks(3)
def test_gather_collects_at_one_rank(rank, world_size, process_group):
    found = [torch.empty(2) for _ in range(world_size)] if rank == 0 else None
    dist.gather(torch.full((2,), float(rank)), found, dst=0, group=process_group)
    if rank == 0:
        assert torch.stack(found).tolist() == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.ranks(3)
def test_scatter_gives_each_rank_its_part(rank, world_size, process_group):
    parts = [torch.tensor([10 * number]) for number in range(world_size)] if rank == 2 else None
    mine = torch.empty(1, dtype=torch.int64)
    dist.scatter(mine, parts, src=2, group=process_group)
    assert mine.item() == 10 * rank


@pytest.mark.ranks(2)
def test_all_gather_keeps_the_order_of_the_ranks(rank, world_size, process_group):
    found = [torch.empty(1, dtype=torch.int64) for _ in range(world_size)]
    dist.all_gather(found, torch.tensor([rank]), group=process_group)
    assert torch.cat(found).tolist() == list(range(world_size))


@pytest.mark.ranks(2)
def test_reduce_scatter_gives_each_rank_the_sum_of_its_part(rank, world_size, process_group):
    mine = torch.empty(3)
    dist.reduce_scatter(mine, [torch.full((3,), 1.0 + part) for part in range(world_size)], group=process_group)
    assert mine.tolist() == [world_size * (1.0 + rank)] * 3


@pytest.mark.ranks(2)
def test_all_to_all_with_parts_of_different_sizes(rank, world_size, process_group):
    # Rank r sends r + 1 numbers to everybody, so that everybody gets 1 number from rank 0, 2 from rank 1, ...
    sends = [rank + 1] * world_size
    gets = [source + 1 for source in range(world_size)]
    found = torch.empty(sum(gets), dtype=torch.int64)
    dist.all_to_all_single(found, torch.full((sum(sends),), rank), gets, sends, group=process_group)
    assert found.tolist() == [source for source in range(world_size) for _ in range(source + 1)]


@pytest.mark.ranks(2)
def test_a_collective_can_go_on_while_the_rank_does_something_else(rank, process_group):
    tensors = [torch.tensor([float(rank + number)]) for number in range(3)]
    works = [dist.all_reduce(tensor, group=process_group, async_op=True) for tensor in tensors]
    assert sum(range(100)) == 4950
    for work in works:
        work.wait()
    assert torch.cat(tensors).tolist() == [1.0, 3.0, 5.0]


@pytest.mark.ranks(2)
def test_nobody_leaves_a_barrier_before_all_have_come(rank, world_size, process_group, tmp_path):
    (tmp_path / f"came-{rank}").touch()
    dist.barrier(group=process_group)
    assert sorted(path.name for path in tmp_path.glob("came-*")) == [f"came-{number}" for number in range(world_size)]


@pytest.mark.ranks(3)
def test_a_monitored_barrier_names_the_rank_that_does_not_come(rank, world_size, process_group):
    group = dist.new_group(list(range(world_size)), backend="gloo")  # it is of no use afterwards
    if rank == 1:
        # The barrier after the failed one: rank 0 and 2 come here, too, and nobody leaves while others still wait.
        dist.barrier(group=process_group)
        return
    with pytest.raises(RuntimeError, match="1 failed to pass monitoredBarrier" if rank == 0 else None):
        dist.monitored_barrier(group, timeout=dt.timedelta(seconds=0.3))
    dist.barrier(group=process_group)


@pytest.mark.ranks(2)
@pytest.mark.xfail(raises=RuntimeError, reason="gloo has no bitwise operations on floats")
def test_bitwise_and_of_floats(process_group):
    dist.all_reduce(torch.ones(2), op=dist.ReduceOp.BAND, group=process_group)
