"""Torch process group of a test on ranks: gloo, configured from the environment of a rank."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


PATIENT_SECONDS = 24 * 3600.0
"""Seconds that a collective may wait in a kept group, where each test has its own limit, and in ranks that a user may
debug, whose peers wait."""


@contextmanager
def open_process_group(
    seconds: float, backend: str = "gloo", *, kept: bool = False, debugged: bool = False
) -> Iterator[Any]:
    """Join the job's default group unless that is done, and leave it at the end unless it is kept.

    Args:
        seconds: the timeout of a collective. It is longer than the test's own limit, so that a hang is reported as a
            hang, with stacks.
        backend: torch's name of the backend.
        kept: whether the next test uses the group as well; ``leave_process_group`` ends it then.
        debugged: whether a user may debug ranks; peers wait for those.

    Raises:
        Skipped: if torch is not installed.
    """
    import pytest

    distributed: Any = pytest.importorskip("torch.distributed")
    if not distributed.is_available():
        pytest.skip("this torch was built without torch.distributed")
    if not (kept and distributed.is_initialized()):
        wait = timedelta(seconds=PATIENT_SECONDS if kept or debugged else seconds)
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
