"""Announcement that a rank is about to exit, so that derail can hold its launcher and inspect what the rank left.

The rank announces the first write to its error file, and its exit, and waits for the answer each time. From then on the
launcher is stopped, and sees the exit only after derail has seen it.
"""

from __future__ import annotations

import atexit
import os
import select
import sys

from .stream_copies import HIGH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ANNOUNCED = b"\xff"
"""Byte that announces the exit, among the numbers of signals."""
PATIENCE_MS = 5000
"""Milliseconds to wait for the answer."""


def announce_to(fd: int, error_file: str) -> None:
    """Announce the exit of this process to derail at the other end of ``fd``, of which a copy is kept.

    Args:
        fd: the connection.
        error_file: the file with an announced first write; empty if no fault needs it.
    """
    import fcntl

    kept, here = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH), os.getpid()

    def announce() -> None:
        if os.getpid() != here:
            return  # a forked child is not the rank
        try:
            os.write(kept, ANNOUNCED)
            poller = select.poll()
            poller.register(kept, select.POLLIN)
            if poller.poll(PATIENCE_MS):
                os.read(kept, 1)
        except OSError:
            pass  # derail is gone, or the program has closed the descriptor

    atexit.register(announce)  # registered before all others, so that it runs after them
    exit_at_once = os._exit

    def announced_exit(status: int) -> None:
        announce()
        exit_at_once(status)

    os._exit = announced_exit  # type: ignore[assignment]
    if error_file:
        sys.addaudithook(_announcing_writes(error_file, announce))


def _announcing_writes(error_file: str, announce: Callable[[], None]) -> Callable[[str, tuple[object, ...]], None]:
    """Return the audit hook that announces the first open for writing of, or rename to, a path."""
    left = [True]

    def hook(event: str, args: tuple[object, ...]) -> None:
        if not left[0] or event not in ("open", "os.rename", "os.link"):
            return
        path = args[0 if event == "open" else 1]
        if not isinstance(path, (str, bytes, os.PathLike)) or os.fsdecode(path) != error_file:
            return
        flags = args[2] if event == "open" else os.O_WRONLY
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR):
            left[0] = False
            announce()

    return hook
