"""Resources that are used up inside a rank."""

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
"""Seconds in which a rank that has leaked stays where it is, so that its descriptors can be counted: it may die of the
next thing that it does."""
PAUSE = 0.002


def leak(runtime: Runtime, task: Task) -> Effect:
    """Open descriptors until the process has so many, or until it may have no more."""
    wanted = int(task.text("count"))

    def open_them() -> None:
        journal = _open_journal(runtime)
        have = wanted and len(os.listdir("/proc/self/fd")) - 1  # without the one that lists them
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
    """The journal from here on; it is one of the descriptors that leak, for another one may not be had any more."""
    try:
        fd = os.open(runtime.part.journal, os.O_RDONLY)
    except OSError:
        return -1
    os.lseek(fd, 0, os.SEEK_END)
    _leaked.append(fd)
    return fd


def _await_the_count(journal: int, task: Task) -> None:
    """Stay until the driver has written what became of the fault."""
    end, heard = real_time.monotonic() + LOOKED_AT, b""
    while journal >= 0 and real_time.monotonic() < end:
        heard += os.read(journal, 1 << 16)
        *whole, heard = heard.split(b"\n")
        if any(record["event"] == "end" and record.get("fault") == task.id for record in map(json.loads, whole)):
            return
        real_time.sleep(PAUSE)  # no event announces that a file grows
