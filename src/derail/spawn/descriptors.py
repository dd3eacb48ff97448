"""Registry of the launcher's own descriptors, which every fork of it closes.

``exec`` closes everything that derail opens. A fork keeps it: a rank with the launcher's end of another job's pipe
would keep that pipe open after the launcher's death.
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
    """Register ``fd`` as the launcher's own, and return it. Forks of this process close it."""
    _owned.add(fd)
    return fd


def disown(fd: int) -> None:
    """Unregister a descriptor that its user is about to close."""
    _owned.discard(fd)


def close_owned(fd: int) -> None:
    """Close a descriptor that was registered by ``own``; do nothing if that was done before."""
    # Unregistered before it is closed: a fork in another thread must never close a number that has been reused.
    if fd in _owned:
        _owned.discard(fd)
        os.close(fd)


def owned() -> frozenset[int]:
    """Return the launcher's own descriptors that are open now."""
    return frozenset(_owned)


@contextmanager
def kept_by_forks(fds: Collection[int]) -> Iterator[None]:
    """Make forks of this thread keep these of the launcher's descriptors while the body runs."""
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
                pass  # it was being closed at the time of the fork
    _owned.clear()


os.register_at_fork(after_in_child=_shed_in_child)
