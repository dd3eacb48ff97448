"""Resources of this process before and after: a resource that exists only after is a leak, and is named."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.model.exit import signal_name
from derail.model.outcome import Leftover
from derail.platform.processes import command_line, every_process

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from derail.platform.processes import ProcessInfo

SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The resources of a process at one moment.

    Attributes:
        processes: its descendants, including zombies: pid and start time -> command line.
        descriptors: number -> target.
        threads: Python's threads: identity -> name.
        handlers: signal -> Python's handler.
        files: entries of the given directories.
        shm: entries of /dev/shm that belong to this user.
    """

    processes: Mapping[tuple[int, float], str]
    descriptors: Mapping[int, str]
    threads: Mapping[int, str]
    handlers: Mapping[int, object]
    files: frozenset[str]
    shm: frozenset[str]


def take_snapshot(*, directories: Collection[Path | str] = ()) -> Snapshot:
    """Return a snapshot of this process. Takes a few milliseconds.

    Args:
        directories: directories with entries to compare (temporary directories); not recursive.
    """
    return Snapshot(
        processes=dict(_descendants()),
        descriptors=dict(_descriptors()),
        threads={thread.ident or 0: thread.name for thread in threading.enumerate()},
        handlers={int(number): signal.getsignal(number) for number in signal.valid_signals()},
        files=frozenset(path for directory in directories for path in _entries(os.fspath(directory))),
        shm=shm_entries(),
    )


def shm_entries() -> frozenset[str]:
    """Return the entries of /dev/shm that belong to this user."""
    return frozenset(_own_entries(SHARED_MEMORY))


def compare(before: Snapshot, after: Snapshot) -> tuple[Leftover, ...]:
    """Return what ``after`` has and ``before`` had not; a changed descriptor or handler counts as well."""
    found = [
        Leftover(kind="process", what=command, pid=pid)
        for (pid, started), command in after.processes.items()
        if (pid, started) not in before.processes
    ]
    found += [
        Leftover(kind="descriptor", what=f"{number} -> {target}")
        for number, target in after.descriptors.items()
        if before.descriptors.get(number) != target
    ]
    found += [
        Leftover(kind="thread", what=name) for ident, name in after.threads.items() if ident not in before.threads
    ]
    found += [
        Leftover(
            kind="handler", what=f"{signal_name(number)}: was {_name(before.handlers.get(number))}, is {_name(now)}"
        )
        for number, now in after.handlers.items()
        if before.handlers.get(number) != now
    ]
    found += [Leftover(kind="file", what=path) for path in sorted(after.files - before.files)]
    found += [Leftover(kind="shm", what=path) for path in sorted(after.shm - before.shm)]
    return tuple(found)


def _descendants() -> Iterator[tuple[tuple[int, float], str]]:
    children: dict[int, list[ProcessInfo]] = {}
    for process in every_process():
        children.setdefault(process.ppid, []).append(process)
    parents = [os.getpid()]
    while parents:
        for process in children.pop(parents.pop(), ()):
            yield (process.pid, process.started), command_line(process) + ("" if process.alive else " (zombie)")
            parents.append(process.pid)


def _descriptors() -> Iterator[tuple[int, str]]:
    directory = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(directory):
        number = int(name)
        try:
            os.fstat(number)
        except OSError:  # the descriptor of the listing itself
            continue
        yield number, _target(directory, number)


def _target(directory: str, number: int) -> str:
    try:
        return os.readlink(f"{directory}/{number}")
    except OSError:  # macOS has no links there
        return "open"


def _entries(directory: str) -> Iterator[str]:
    try:
        yield from (os.path.join(directory, name) for name in os.listdir(directory))
    except OSError:
        return


def _own_entries(directory: str) -> Iterator[str]:
    for path in _entries(directory):
        try:
            if os.lstat(path).st_uid == os.geteuid():
                yield path
        except OSError:
            continue


def _name(handler: object) -> str:
    if isinstance(handler, signal.Handlers):
        return handler.name
    return "not Python's" if handler is None else str(getattr(handler, "__qualname__", repr(handler)))
