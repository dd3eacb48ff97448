"""Resources that are used up inside a rank."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .actions import Effect
    from .part import Task
    from .runtime import Runtime

_leaked: list[int] = []


def leak(_: Runtime, task: Task) -> Effect:
    """Open descriptors until the process has so many, or until it may have no more."""
    wanted = int(task.text("count"))

    def open_them() -> None:
        have = wanted and len(os.listdir("/proc/self/fd")) - 1  # without the one that lists them
        try:
            while not wanted or have < wanted:
                _leaked.append(os.open(os.devnull, os.O_RDONLY))
                have += 1
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise

    return open_them
