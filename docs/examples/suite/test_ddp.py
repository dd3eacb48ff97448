"""DistributedDataParallel beside the same training in one process."""

import pytest
import torch
import torch.distributed as dist
import training
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel


@pytest.fixture(scope="module")
def gradients_of_one_process(samples):
    """Those of the whole batch: computed once, and handed to the ranks."""
    model = training.model()
    nn.functional.mse_loss(model(samples[0]), samples[1]).backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.ranks(2)
def test_gradients_are_those_of_the_whole_batch(process_group, shard, gradients_of_one_process):
    model = DistributedDataParallel(training.model(), process_group=process_group)
    nn.functional.mse_loss(model(shard[0]), shard[1]).backward()
    assert training.same((parameter.grad for parameter in model.parameters()), gradients_of_one_process, atol=1e-6)


@pytest.mark.ranks(2)
def test_steps_are_those_of_one_process(process_group, shard, samples):
    alone = training.model()
    for_one = training.optimizer(alone)
    model = DistributedDataParallel(training.model(), process_group=process_group)
    for_many = training.optimizer(model)
    for _ in range(5):
        training.step(alone, for_one, *samples)
        training.step(model, for_many, *shard)
    assert training.same(model.parameters(), alone.parameters(), atol=1e-5)


@pytest.mark.ranks(2)
def test_all_ranks_begin_with_the_parameters_of_rank_0(rank, process_group):
    model = DistributedDataParallel(training.model(seed=rank), process_group=process_group)
    assert training.same(model.parameters(), training.model(seed=0).parameters())


@pytest.mark.ranks(2)
def test_no_sync_collects_gradients_until_the_next_backward(rank, process_group, shard, gradients_of_one_process):
    model = DistributedDataParallel(training.model(), process_group=process_group)
    halves = [(inputs, targets) for inputs, targets in zip(shard[0].chunk(2), shard[1].chunk(2), strict=True)]
    with model.no_sync():
        nn.functional.mse_loss(model(halves[0][0]), halves[0][1], reduction="sum").backward()
    mine = [torch.empty_like(parameter) for parameter in model.parameters()]
    for copy, parameter in zip(mine, model.parameters(), strict=True):
        copy.copy_(parameter.grad)
        dist.broadcast(copy, src=0, group=process_group)
    different = not training.same(mine, (parameter.grad for parameter in model.parameters()))
    assert different == (rank == 1), "gradients are still local"
    nn.functional.mse_loss(model(halves[1][0]), halves[1][1], reduction="sum").backward()
    mean = (parameter.grad / len(shard[0]) for parameter in model.parameters())
    assert training.same(mean, gradients_of_one_process, atol=1e-6)


@pytest.mark.ranks(2)
def test_buffers_are_those_of_rank_0(rank, process_group):
    model = DistributedDataParallel(nn.BatchNorm1d(3), process_group=process_group)
    model.module.running_mean.fill_(float(rank + 1))
    model(torch.zeros(4, 3))
    assert model.module.running_mean.tolist() == pytest.approx([0.9] * 3)


class TwoHeads(nn.Module):
    """Of which only one is used at a time."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])

    def forward(self, inputs, head):
        return self.heads[head](inputs)


@pytest.mark.ranks(2)
@pytest.mark.parametrize("find_unused_parameters", [True, False])
def test_parameters_that_a_step_does_not_use(process_group, find_unused_parameters):
    model = DistributedDataParallel(
        TwoHeads(), process_group=process_group, find_unused_parameters=find_unused_parameters
    )
    model(torch.ones(1, 2), head=0).sum().backward()
    if find_unused_parameters:
        model(torch.ones(1, 2), head=1).sum().backward()
    else:
        with pytest.raises(RuntimeError, match="Expected to have finished reduction"):
            model(torch.ones(1, 2), head=1)


@pytest.mark.ranks(2)
def test_a_hook_decides_how_gradients_travel(world_size, process_group, shard, gradients_of_one_process):
    seen = []

    def in_half_precision(group, bucket):
        seen.append(bucket.buffer().numel())
        future = dist.all_reduce(bucket.buffer().half() / world_size, group=group, async_op=True).get_future()
        return future.then(lambda reduced: reduced.value()[0].float())

    model = DistributedDataParallel(training.model(), process_group=process_group)
    model.register_comm_hook(process_group, in_half_precision)
    nn.functional.mse_loss(model(shard[0]), shard[1]).backward()
    assert sum(seen) == sum(parameter.numel() for parameter in model.parameters())
    found = [parameter.grad for parameter in model.parameters()]
    assert training.same(found, gradients_of_one_process, atol=1e-2)
    assert not training.same(found, gradients_of_one_process)


@pytest.mark.ranks(2)
def test_ranks_with_fewer_batches_join_the_others(rank, process_group, samples):
    model = DistributedDataParallel(training.model(), process_group=process_group)
    optimizer, steps = training.optimizer(model), 0
    with Join([model]):
        for _ in range(2 + 3 * rank):
            training.step(model, optimizer, *samples)
            steps += 1
    assert steps == (2, 5)[rank]
    mine = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    first = mine.clone()
    dist.broadcast(first, src=0, group=process_group)
    assert torch.equal(mine, first)


@pytest.mark.ranks(2)
@pytest.mark.usefixtures("process_group")
def test_models_of_different_shapes_are_refused(rank, world_size):
    group = dist.new_group(list(range(world_size)))
    with pytest.raises(RuntimeError, match="appears not to match" if rank == 1 else None):
        DistributedDataParallel(nn.Linear(2 + rank, 1), process_group=group)
    dist.destroy_process_group(group)  # rank 0 waits for rank 1, until this tells it that nobody is there
