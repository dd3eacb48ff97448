"""Which descriptors belong to the launcher, so that whatever is forked from it sheds them.

Everything that derail opens is closed by ``exec``. A fork keeps it: a rank that held the launcher's end of another
job's pipe would keep that pipe alive after the launcher has died.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_owned: set[int] = set()
_forking = threading.local()


def own(fd: int) -> int:
    """Note that ``fd`` is the launcher's own, and give it back. Forks of this process close it."""
    _owned.add(fd)
    return fd


def disown(fd: int) -> None:
    """Forget a descriptor that somebody else is about to close."""
    _owned.discard(fd)


def close_owned(fd: int) -> None:
    """Close a descriptor that was noted by ``own``; does nothing if it was closed so before."""
    # Forgotten before it is closed: a fork in another thread must never close a number that is somebody else's by now.
    if fd in _owned:
        _owned.discard(fd)
        os.close(fd)


def owned() -> frozenset[int]:
    """The launcher's own descriptors that are open now."""
    return frozenset(_owned)


@contextmanager
def kept_by_forks(fds: Collection[int]) -> Iterator[None]:
    """While the body runs, what this thread forks keeps these of the launcher's descriptors."""
    _forking.keep = fds
    try:
        yield
    finally:
        _forking.keep = ()


def _shed_in_child() -> None:
    keep = getattr(_forking, "keep", ())
    for fd in tuple(_owned):
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass  # it was being closed while the fork happened
    _owned.clear()


os.register_at_fork(after_in_child=_shed_in_child)
