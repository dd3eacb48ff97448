"""Leaks of a test in its own process, and files of its ranks in their temporary directory."""

from __future__ import annotations

import functools
import gc
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from derail.faults.mechanisms.sockets import LISTENING, table
from derail.model.clock import SYSTEM_CLOCK
from derail.platform.leftovers import is_helper
from derail.platform.private_files import why_not_own
from derail.platform.processes import environment, was_executed
from derail.platform.shared_memory import unused
from derail.platform.snapshot import compare, shm_entries, take_snapshot
from derail.platform.strangers import descendants
from pytest_derail.ranks.tracker_names import Registered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    import pytest

    from derail.model.outcome import Leftover
    from derail.platform.snapshot import Snapshot

SETTLE_SECONDS = 5.0
"""Seconds within which an ending thread, process or descriptor must be gone."""

LOOK_SECONDS = 0.02  # seconds between two checks
LASTING = {"TORCHINDUCTOR_CACHE_DIR": "torchinductor"}
"""Caches in the temporary directory that are meant to outlast a process. They stay in the common directory, unless
another user could have written there, or still can: torch executes the code in its cache."""

LASTING_FILES = ("pymp-", "torch-shm-dir-", "joblib_memmapping_folder_", "loky-", "ompi.")
"""Prefixes of files that these libraries, and Open MPI, keep in the temporary directory until their process ends."""

NUMBER = re.compile(r"(?<![0-9A-Za-z])[0-9]+(?![0-9A-Za-z])")
"""A number in a name, as a separate word: not a part of a random one."""

LONGEST = 70
"""Maximum bytes of a path that leave room for a socket's name, which has 107 bytes in all."""


class Leaks:
    """Comparison of this process with its state when the test began."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._after: Snapshot | None = None
        self._registered = Registered()

    def begin(self) -> None:
        """Record the current state of the process."""
        self._before = take_snapshot()
        self._registered.begin()

    def left(self, *, allowed: Collection[str], pids: Collection[int] = ()) -> list[Leftover]:
        """Return new threads, processes, descriptors and files; those that are ending get some seconds.

        Args:
            allowed: kinds of leftovers that are allowed.
            pids: process ids of the ranks, and of their leftovers.
        """
        if self._before is None:
            return []
        self._registered.end()
        leaks = self._look(self._before, allowed, pids)
        if leaks:
            gc.collect()  # closes files without references, as would happen soon anyway
        deadline = SYSTEM_CLOCK.now() + SETTLE_SECONDS
        while leaks and SYSTEM_CLOCK.now() < deadline:
            threading.Event().wait(LOOK_SECONDS)
            leaks = self._look(self._before, allowed, pids)
        return leaks

    def of_unknown_makers(self, reported: Collection[Leftover]) -> list[str]:
        """Return new entries of /dev/shm that no process uses and that ``left`` has not reported.

        It is unknown whether a process of the test created them.
        """
        if self._before is None or self._after is None:
            return []
        known = {left.what for left in reported}
        new = self._after.shm - self._before.shm - known
        return unused(new) if new else []

    def _look(self, before: Snapshot, allowed: Collection[str], pids: Collection[int]) -> list[Leftover]:
        self._after = take_snapshot()
        new = [
            left for left in compare(before, self._after) if left.kind not in (*allowed, "file") and not _is_timer(left)
        ]
        kept = residents() if new else ()
        return [
            _with_port(left)
            for left in _without_strangers(new, {*pids, os.getpid()}, self._registered.paths)
            if left.pid not in kept and left.what.split(" ")[0] not in kept
            if left.kind != "process" or not is_lasting(left.what, left.pid)
        ]


class Arrivals:
    """Entries of /dev/shm that appear while ranks run, without a known creator."""

    def __init__(self) -> None:
        """Record the present entries."""
        self._before = shm_entries()

    def unused(self) -> list[str]:
        """Return the new entries that no process uses."""
        new = shm_entries() - self._before
        return unused(new) if new else []


def note(item: pytest.Item, when: str, *, unknown: Iterable[str] = (), unlinked: Iterable[str] = ()) -> None:
    """Add facts that are not errors to the report of a phase; pytest shows them if the test fails, or with ``-rA``.

    Args:
        item: the test.
        when: its phase.
        unknown: entries of /dev/shm with an unknown creator.
        unlinked: entries that derail has unlinked in place of a dead resource tracker.
    """
    lines = [
        *(f"unlinked: {path} (registered by a rank; its resource tracker ended before it could)" for path in unlinked),
        *(f"may be left behind: {path} (new, and used by no process; its creator is unknown)" for path in unknown),
    ]
    if lines:
        item.add_report_section(when, "derail", "\n".join(lines) + "\n")


def _without_strangers(leaks: list[Leftover], pids: Collection[int], registered: Collection[str]) -> list[Leftover]:
    """Drop shared memory that a process uses, or that none of the test's processes created.

    The kernel does not record the creator of an entry. Entries of the test have the PID of one of its processes in the
    name (torch, joblib), or were registered by this process.
    """
    numbers = {*map(str, pids)}
    paths = [left.what for left in leaks if left.kind == "shm"]
    ours = [
        path for path in paths if path in registered or numbers.intersection(NUMBER.findall(os.path.basename(path)))
    ]
    lost = unused(ours) if ours else ()
    return [left for left in leaks if left.kind != "shm" or left.what in lost]


def processes_of(test: str, pids: Collection[int]) -> Callable[[int], bool]:
    """Return a function that decides whether a process belongs to a test.

    Such processes are this one and its descendants, the ranks and their leftovers, and processes executed during the
    test.
    """
    ours = {os.getpid(), *pids, *descendants(os.getpid())}
    mark = f"PYTEST_CURRENT_TEST={test} (".encode()
    return lambda pid: pid in ours or any(entry.startswith(mark) for entry in environment(pid).split(b"\0"))


def is_lasting(command: str, pid: int | None) -> bool:
    """Return whether a process serves its parent until that ends: a clean-up helper, or a loky worker kept for reuse.

    A child of a fork server has the command line of a helper without being one.
    """
    if "loky.backend.popen_loky_posix" in command:
        return True
    return is_helper(command) and (pid is None or was_executed(pid))


def _is_timer(left: Leftover) -> bool:
    """Return whether pytest-timeout has only removed its handler, as it does when a test has failed."""
    return left.kind == "handler" and "was pytest_timeout_set_timer." in left.what


def _with_port(left: Leftover) -> Leftover:
    """Add the port to a descriptor of a listening socket."""
    _, is_socket, inode = left.what.rpartition("socket:[")
    if left.kind != "descriptor" or not is_socket:
        return left
    state, port, _ = table("self").get(int(inode.rstrip("]")), (0, 0, 0))
    return replace(left, what=f"{left.what}, listening on port {port}") if state == LISTENING else left


def residents() -> Collection[object]:
    """Return processes (by pid) and descriptors (by number, as text) that are kept for reuse: no leaks.

    They belong to multiprocessing and to the zygotes of warm ranks.
    """
    kept: set[object] = set()
    servers = sys.modules.get("derail.spawn.zygote.pool")
    for pid, fds in servers.kept().items() if servers is not None else ():
        kept |= {pid, *map(str, fds)}
    for name, holder, pid, fd in (
        *((name, "_resource_tracker", "_pid", "_fd") for name in _trackers(len(sys.modules))),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid", "_forkserver_alive_fd"),
    ):
        held = getattr(sys.modules.get(name), holder, None)
        kept |= {getattr(held, pid, None), str(getattr(held, fd, None))}
    return kept - {None, "None"}


@functools.lru_cache(maxsize=1)
def _trackers(modules: int) -> tuple[str, ...]:
    """Return the modules that start a resource tracker (loky has its own), cached by the number of loaded modules.

    Searching 2,000 names takes a millisecond.
    """
    del modules
    return tuple(name for name in sys.modules if name.endswith(".resource_tracker"))


class RankFiles:
    """Temporary directory for the ranks of a test, so that files in it are known to be theirs.

    It is inside pytest's temporary directory, which is cleaned up also after a session that was killed.
    """

    def __init__(self, paths: pytest.TempPathFactory) -> None:
        self._paths = paths
        self._path: Path | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables that point ranks to the directory, which is created at the first call."""
        if self._path is None:
            self._path = self._paths.mktemp("dr")
            if len(os.fsencode(self._path)) > LONGEST:
                self._path = Path(tempfile.mkdtemp(prefix="dr-"))
        shared = {name: self._lasting(folder) for name, folder in LASTING.items() if name not in os.environ}
        return {"TMPDIR": str(self._path), **shared}

    def _lasting(self, folder: str) -> str:
        """Return the path of a cache: in the common temporary directory, or with pytest's files of this session."""
        common = tempfile.gettempdir()
        path = os.path.join(common, f"{folder}_{_user()}")
        others_may_make_it = os.stat(common).st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not os.path.isdir(path)
        if others_may_make_it or why_not_own(os.path.join(path, folder)):
            return str(self._paths.getbasetemp() / folder)
        return path

    def left(self) -> Sequence[str]:
        """Return the names of the present files."""
        return sorted(os.listdir(self._path)) if self._path is not None and self._path.is_dir() else []

    def remove(self) -> None:
        """Remove the directory and its contents. Idempotent."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
