"""Unused entries of /dev/shm: they stay until they are removed, or the machine is restarted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def unused(paths: Collection[str]) -> list[str]:
    """Return the entries that no live process has open or mapped, as far as this user can see."""
    rest = {path for path in paths if os.path.lexists(path)}
    for name in os.listdir("/proc") if rest and os.path.isdir("/proc/self") else ():
        if name.isdigit():
            rest -= rest.intersection(_used_by(name))
        if not rest:
            break
    return sorted(rest)


def open_files(pid: int | str) -> Iterator[str]:
    """Yield the targets of a process's descriptors; nothing if it is gone or belongs to another user."""
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            yield os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return


def _used_by(pid: str) -> Iterator[str]:
    """Yield the files that a process has open or mapped."""
    yield from open_files(pid)
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.rstrip("\n").split(maxsplit=5)
                if len(fields) > 5:
                    yield fields[5]
    except OSError:
        pass
