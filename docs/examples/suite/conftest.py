"""What the tests share: made once, in the process that runs pytest, and handed to the ranks of each test."""

import pytest
import torch
import training


@pytest.fixture(scope="session")
def samples():
    """Ten inputs and targets, the same for every rank of every test."""
    return training.samples(10)


@pytest.fixture(scope="session")
def checkpoint_of_one_process(samples, tmp_path_factory):
    """The path of what a training in one process saved after three steps."""
    model = training.model()
    optimizer = training.optimizer(model)
    for _ in range(3):
        training.step(model, optimizer, *samples)
    path = tmp_path_factory.mktemp("one-process") / "checkpoint.pt"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3}, path)
    return path


@pytest.fixture
def shard(rank, world_size, samples):
    """The part of the samples that belongs to this rank: of scope "function", so that each rank makes its own."""
    inputs, targets = samples
    return inputs[rank::world_size], targets[rank::world_size]
