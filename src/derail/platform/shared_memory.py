"""Which entries of /dev/shm nobody uses: they stay until somebody removes them, or the machine is started again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def unused(paths: Collection[str]) -> list[str]:
    """Of these entries those that no living process has open or mapped, as far as this user may see."""
    rest = {path for path in paths if os.path.lexists(path)}
    for name in os.listdir("/proc") if rest and os.path.isdir("/proc/self") else ():
        if name.isdigit():
            rest -= rest.intersection(_used_by(name))
        if not rest:
            break
    return sorted(rest)


def open_files(pid: int | str) -> Iterator[str]:
    """Yield what the descriptors of a process are open on; nothing if it is gone or belongs to another user."""
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            yield os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return


def _used_by(pid: str) -> Iterator[str]:
    """What a process has open, and what it has mapped."""
    yield from open_files(pid)
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.rstrip("\n").split(maxsplit=5)
                if len(fields) > 5:
                    yield fields[5]
    except OSError:
        pass
