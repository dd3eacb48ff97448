"""Resources exhausted inside a rank."""

from __future__ import annotations

import errno
import json
import os

from .. import real_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..api import Effect, Runtime
    from ..rank_plan import Task

_leaked: list[int] = []


LOOKED_AT = 2.0
"""Maximum seconds that a rank waits after a leak, so that the driver can count its descriptors: the next action of the
rank may end it."""
PAUSE = 0.002


def leak(runtime: Runtime, task: Task) -> Effect:
    """Open descriptors until the process has a number of them, or until its limit."""
    wanted = int(task.text("count"))

    def open_them() -> None:
        journal = _open_journal(runtime)
        have = wanted and len(os.listdir("/proc/self/fd")) - 1  # without the descriptor of the listing
        try:
            while not wanted or have < wanted:
                _leaked.append(os.open(os.devnull, os.O_RDONLY))
                have += 1
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        _await_the_count(journal, task)

    return open_them


def _open_journal(runtime: Runtime) -> int:
    """Open the journal at its end, as one of the leaked descriptors: a later open could fail."""
    try:
        fd = os.open(runtime.part.journal, os.O_RDONLY)
    except OSError:
        return -1
    os.lseek(fd, 0, os.SEEK_END)
    _leaked.append(fd)
    return fd


def _await_the_count(journal: int, task: Task) -> None:
    """Wait until the driver has journalled the result of the fault."""
    end, pending = real_time.monotonic() + LOOKED_AT, b""
    while journal >= 0 and real_time.monotonic() < end:
        pending += os.read(journal, 1 << 16)
        *whole, pending = pending.split(b"\n")
        if any(record["event"] == "end" and record.get("fault") == task.id for record in map(json.loads, whole)):
            return
        real_time.sleep(PAUSE)  # no event announces that a file grows
