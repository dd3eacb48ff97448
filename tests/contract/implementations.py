"""The two implementations of one interface: where each keeps the names that torch made public."""

from __future__ import annotations

import importlib
from typing import Any

TORCH = "torch.distributed.elastic.multiprocessing"

HOMES: dict[str, tuple[str, ...]] = {
    "torch": (
        TORCH,
        f"{TORCH}.api",
        f"{TORCH}.errors",
        f"{TORCH}.redirects",
        f"{TORCH}.tail_log",
        f"{TORCH}.subprocess_handler",
    ),
    "derail": ("derail", "derail.errors", "derail.logs", "derail.spawn"),
}


class Api:
    """All public names of one implementation in one place."""

    def __init__(self, implementation: str) -> None:
        self.implementation = implementation
        self._modules = [importlib.import_module(home) for home in HOMES[implementation]]

    def __getattr__(self, name: str) -> Any:
        """Find ``name`` in the first module that has it."""
        for module in self._modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"{self.implementation} has no {name} in {', '.join(HOMES[self.implementation])}")
