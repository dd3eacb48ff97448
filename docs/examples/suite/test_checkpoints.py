"""What is saved by some ranks, and loaded by others."""

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import training
from torch.nn.parallel import DistributedDataParallel


@pytest.mark.ranks(2)
def test_what_rank_0_saves_is_what_all_load(rank, process_group, samples, tmp_path):
    model = DistributedDataParallel(training.model(), process_group=process_group)
    training.step(model, training.optimizer(model), *samples)
    if rank == 0:
        torch.save(model.module.state_dict(), tmp_path / "model.pt")
    dist.barrier(group=process_group)
    loaded = training.model(seed=rank + 100)
    loaded.load_state_dict(torch.load(tmp_path / "model.pt"))
    assert training.same(loaded.parameters(), model.parameters())


@pytest.mark.ranks([1, 2])
def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(process_group, samples, checkpoint_of_one_process):
    alone = training.model()
    for_one = training.optimizer(alone)
    expected = [training.step(alone, for_one, *samples) for _ in range(6)]

    saved = torch.load(checkpoint_of_one_process)
    model = training.model(seed=100)
    model.load_state_dict(saved["model"])
    model = DistributedDataParallel(model, process_group=process_group)
    optimizer = training.optimizer(model)
    optimizer.load_state_dict(saved["optimizer"])
    losses = [training.step(model, optimizer, *samples) for _ in range(6 - saved["step"])]
    assert losses == pytest.approx(expected[saved["step"] :], abs=1e-6)


@pytest.mark.ranks(2)
def test_without_the_state_of_the_optimizer_a_training_goes_elsewhere(
    process_group, samples, checkpoint_of_one_process
):
    saved = torch.load(checkpoint_of_one_process)
    models = [training.model(), training.model()]
    for model, keep in zip(models, (True, False), strict=True):
        model.load_state_dict(saved["model"])
        wrapped = DistributedDataParallel(model, process_group=process_group)
        optimizer = training.optimizer(wrapped)
        if keep:
            optimizer.load_state_dict(saved["optimizer"])
        training.step(wrapped, optimizer, *samples)
    assert not training.same(models[0].parameters(), models[1].parameters(), atol=1e-3)


@pytest.mark.ranks(2)
def test_each_rank_saves_its_own_shard(rank, world_size, process_group, tmp_path):
    torch.save(torch.arange(6)[rank::world_size], tmp_path / f"shard-{rank}.pt")
    dist.barrier(group=process_group)
    whole = torch.empty(6, dtype=torch.int64)
    for number in range(world_size):
        whole[number::world_size] = torch.load(tmp_path / f"shard-{number}.pt")
    assert whole.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.ranks(2)
def test_a_distributed_checkpoint_comes_back(rank, process_group, tmp_path):
    state = {"weight": torch.full((4,), 7.0), f"of rank {rank}": torch.tensor([rank])}
    dcp.save(state, checkpoint_id=tmp_path / "saved", process_group=process_group)
    loaded = {"weight": torch.zeros(4), f"of rank {rank}": torch.tensor([-1])}
    dcp.load(loaded, checkpoint_id=tmp_path / "saved", process_group=process_group)
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }


@pytest.mark.ranks(2)
def test_half_a_checkpoint_is_refused_by_the_rank_that_reads_it(rank, process_group, tmp_path):
    path = tmp_path / f"model-{rank}.pt"
    torch.save(training.model().state_dict(), path)
    if rank == 1:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(RuntimeError, match=r"PytorchStreamReader|failed finding central directory"):
            torch.load(path)
    else:
        torch.load(path)
    dist.barrier(group=process_group)
