"""A function for ranks that needs torch."""

from __future__ import annotations

from typing import Any


def give_tensor(size: int) -> Any:
    """A tensor of ones, larger than a pipe."""
    import torch

    return torch.ones(size, 100_000)
