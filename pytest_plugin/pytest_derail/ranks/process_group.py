"""The torch process group of a test on ranks: gloo, from what the environment of a rank says."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


KEPT_SECONDS = 24 * 3600.0
"""How long a collective of a kept group may wait: the tests have their own limits."""


@contextmanager
def open_process_group(seconds: float, backend: str = "gloo", *, kept: bool = False) -> Iterator[Any]:
    """Join the default group of the job, if this is not done yet, and leave it at the end, if it is not kept.

    Args:
        seconds: how long a collective may wait for other ranks. Longer than the test itself may take, so that a hang
            is told as one, with stacks.
        backend: torch's name of it.
        kept: whether the next test wants it too; ``leave_process_group`` is its end.

    Raises:
        Skipped: if torch is not installed.
    """
    import pytest

    distributed: Any = pytest.importorskip("torch.distributed")
    if not distributed.is_available():
        pytest.skip("this torch was built without torch.distributed")
    if not (kept and distributed.is_initialized()):
        wait = timedelta(seconds=KEPT_SECONDS if kept else seconds)
        distributed.init_process_group(backend, timeout=wait)
    try:
        yield distributed.group.WORLD
    finally:
        if not kept:
            leave_process_group()


def leave_process_group() -> None:
    """Leave the default group, if there is one."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
