"""What a test leaves in its own process, and its ranks in their temporary directory."""

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
"""How long something that is ending may take to be gone."""

LOOK_SECONDS = 0.02
LASTING = {"TORCHINDUCTOR_CACHE_DIR": "torchinductor"}
"""Caches in the temporary directory that are meant to outlast a process: they stay in the common one, unless another
user could have put something there, or still can. torch runs the code that it finds in its cache."""

LASTING_FILES = ("pymp-", "torch-shm-dir-", "joblib_memmapping_folder_", "loky-")
"""How names of files begin that multiprocessing, torch and loky keep in the temporary directory until their process
ends."""

NUMBER = re.compile(r"(?<![0-9A-Za-z])[0-9]+(?![0-9A-Za-z])")
"""A number in a name, as a word of its own: not a part of a random one."""

LONGEST = 70
"""Bytes of a path that leave room for the name of a socket, which has 107 in all."""


class Remains:
    """Compares this process with what it was when the test began."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._after: Snapshot | None = None
        self._registered = Registered()

    def begin(self) -> None:
        """Look at the process, now."""
        self._before = take_snapshot()
        self._registered.begin()

    def left(self, *, allowed: Collection[str], pids: Collection[int] = ()) -> list[Leftover]:
        """What is there now and was not before; what is ending gets some seconds.

        Args:
            allowed: kinds of things that may be left.
            pids: the ranks that there were, and what outlived them.
        """
        if self._before is None:
            return []
        self._registered.end()
        found = self._look(self._before, allowed, pids)
        if found:
            gc.collect()  # a file that nobody refers to any more is closed by this, as it would be soon
        deadline = SYSTEM_CLOCK.now() + SETTLE_SECONDS
        while found and SYSTEM_CLOCK.now() < deadline:
            threading.Event().wait(LOOK_SECONDS)
            found = self._look(self._before, allowed, pids)
        return found

    def of_unknown_makers(self, reported: Collection[Leftover]) -> list[str]:
        """Entries of /dev/shm that came while the test ran, that no process uses, and that ``left`` has not reported:
        whether a process of the test made them is not known."""
        if self._before is None or self._after is None:
            return []
        known = {left.what for left in reported}
        came = self._after.shm - self._before.shm - known
        return unused(came) if came else []

    def _look(self, before: Snapshot, allowed: Collection[str], pids: Collection[int]) -> list[Leftover]:
        self._after = take_snapshot()
        found = [
            left for left in compare(before, self._after) if left.kind not in (*allowed, "file") and not _is_timer(left)
        ]
        kept = residents() if found else ()
        return [
            _with_port(left)
            for left in _without_strangers(found, {*pids, os.getpid()}, self._registered.paths)
            if left.pid not in kept and left.what.split(" ")[0] not in kept
            if left.kind != "process" or not is_lasting(left.what, left.pid)
        ]


class Arrivals:
    """Entries of /dev/shm that come while ranks run, and whose maker is not known."""

    def __init__(self) -> None:
        """Look at what is there."""
        self._before = shm_entries()

    def unused(self) -> list[str]:
        """Return what has come and is used by no process."""
        came = shm_entries() - self._before
        return unused(came) if came else []


def note(item: pytest.Item, when: str, *, unknown: Iterable[str] = (), unlinked: Iterable[str] = ()) -> None:
    """Say in the report of a phase, which pytest shows if the test fails or on ``-rA``, what is no error.

    Args:
        item: the test.
        when: its phase.
        unknown: entries of /dev/shm whose maker is not known.
        unlinked: those that derail has unlinked in place of a dead resource tracker.
    """
    lines = [
        *(f"unlinked: {path} (registered by a rank; its resource tracker ended before it could)" for path in unlinked),
        *(f"may be left behind: {path} (new, and used by no process; its maker is not known)" for path in unknown),
    ]
    if lines:
        item.add_report_section(when, "derail", "\n".join(lines) + "\n")


def _without_strangers(found: list[Leftover], pids: Collection[int], registered: Collection[str]) -> list[Leftover]:
    """Drop shared memory that a process uses, or that none of our processes made. The kernel does not record the
    maker of an entry: ours have the PID of one of our processes in the name (torch, joblib), or this process has
    registered them."""
    numbers = {*map(str, pids)}
    paths = [left.what for left in found if left.kind == "shm"]
    ours = [
        path for path in paths if path in registered or numbers.intersection(NUMBER.findall(os.path.basename(path)))
    ]
    lost = unused(ours) if ours else ()
    return [left for left in found if left.kind != "shm" or left.what in lost]


def processes_of(test: str, pids: Collection[int]) -> Callable[[int], bool]:
    """Return a function that says whether a process is one of a test: this one and what descends from it, the ranks and
    what outlived them, and what was executed while the test ran."""
    ours = {os.getpid(), *pids, *descendants(os.getpid())}
    mark = f"PYTEST_CURRENT_TEST={test} (".encode()
    return lambda pid: pid in ours or any(entry.startswith(mark) for entry in environment(pid).split(b"\0"))


def is_lasting(command: str, pid: int | None) -> bool:
    """Whether a process serves its parent until that ends: helpers that clean up behind others, and the workers that
    loky keeps for later calls. A child of a fork server has the command line of one, and is none."""
    if "loky.backend.popen_loky_posix" in command:
        return True
    return is_helper(command) and (pid is None or was_executed(pid))


def _is_timer(left: Leftover) -> bool:
    """Whether pytest-timeout has only taken its handler back, as it does when a test has failed."""
    return left.kind == "handler" and "was pytest_timeout_set_timer." in left.what


def _with_port(left: Leftover) -> Leftover:
    """A descriptor that is a server's, with the port."""
    _, is_socket, inode = left.what.rpartition("socket:[")
    if left.kind != "descriptor" or not is_socket:
        return left
    state, port, _ = table("self").get(int(inode.rstrip("]")), (0, 0, 0))
    return replace(left, what=f"{left.what}, listening on port {port}") if state == LISTENING else left


def residents() -> Collection[object]:
    """Processes (by pid) and descriptors (by number, as text) that are kept for later once they were used: no leaks.
    Those of multiprocessing, and the processes that warm ranks are forked from."""
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
    """The modules that start a resource tracker (loky has one of its own), as long as there are so many modules: to
    look through 2,000 names takes a millisecond."""
    del modules
    return tuple(name for name in sys.modules if name.endswith(".resource_tracker"))


class RankFiles:
    """A temporary directory for the ranks of a test, so that what they leave in it is known to be theirs.

    It lies where pytest keeps its own, which is cleaned up also after a session that was killed.
    """

    def __init__(self, paths: pytest.TempPathFactory) -> None:
        self._paths = paths
        self._path: Path | None = None

    def environment(self) -> dict[str, str]:
        """The variables that send ranks there. The directory is created when first asked for."""
        if self._path is None:
            self._path = self._paths.mktemp("dr")
            if len(os.fsencode(self._path)) > LONGEST:
                self._path = Path(tempfile.mkdtemp(prefix="dr-"))
        shared = {name: self._lasting(folder) for name, folder in LASTING.items() if name not in os.environ}
        return {"TMPDIR": str(self._path), **shared}

    def _lasting(self, folder: str) -> str:
        """Where a cache lies: in the common temporary directory, or where pytest keeps the files of this session."""
        common = tempfile.gettempdir()
        path = os.path.join(common, f"{folder}_{_user()}")
        others_may_make_it = os.stat(common).st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not os.path.isdir(path)
        if others_may_make_it or why_not_own(os.path.join(path, folder)):
            return str(self._paths.getbasetemp() / folder)
        return path

    def left(self) -> Sequence[str]:
        """What lies there now."""
        return sorted(os.listdir(self._path)) if self._path is not None and self._path.is_dir() else []

    def remove(self) -> None:
        """Remove the directory and all that is in it. Idempotent."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
