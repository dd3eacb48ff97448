"""A training small enough to be compared number by number with the same training in one process."""

import torch
from torch import nn


def samples(count):
    """Inputs and targets of a fixed function."""
    generator = torch.Generator().manual_seed(17)
    inputs = torch.randn(count, 4, generator=generator)
    return inputs, inputs.sum(dim=1, keepdim=True)


def model(seed=3):
    """Two layers. The seed decides about the first parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def optimizer(of):
    """One with a state of its own, so that losing it shows."""
    return torch.optim.Adam(of.parameters(), lr=0.05)


def step(of, with_optimizer, inputs, targets):
    """One step; returns the loss before it."""
    with_optimizer.zero_grad()
    loss = nn.functional.mse_loss(of(inputs), targets)
    loss.backward()
    with_optimizer.step()
    return loss.item()


def same(these, those, atol=0.0):
    """Whether two lists of tensors are the same, up to a tolerance."""
    these, those = list(these), list(those)
    return len(these) == len(those) and all(
        torch.allclose(this, that, rtol=0.0, atol=atol) for this, that in zip(these, those, strict=True)
    )
