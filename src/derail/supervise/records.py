"""Error files of ranks that still run: which is complete, and what it says, as soon as the kernel announces it.

The kernel's announcement is evidence of *when* a rank recorded an error; a time that the rank wrote is not. A file is
named in the watched directory when it is created, linked or renamed there, and complete when it can be decoded: at that
moment, or when its writer closes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from derail.errors.protocol import READ_LIMIT, ErrorRecord, identify, read
from derail.platform.inotify import LOST, Notifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from derail.errors.protocol import Identity
    from derail.model.spec import RankSpec

LONG_BEFORE = 60.0
"""Seconds before the start of the job: an error file that is older is of no rank of it. A smaller difference may be
that of a file server's clock."""

STORM, STORM_PER_RANK = 1024, 256
"""Changes that are taken note of in one turn, and how many more for each rank. A rank fails with four or fewer."""

NOBODY = -1
"""Stands for changes that tell of no rank, among the ranks whose changes were announced."""


class Records:
    """Watches the error files of one job with one inotify descriptor. Belongs to the job's thread.

    Attributes:
        unwatched: ranks whose error file has to be looked at, since no change of it is announced.
    """

    def __init__(self, stale: Mapping[int, Identity]) -> None:
        self.unwatched: set[int] = set()
        self._stale = dict(stale)
        self._too_old_ns = 0.0
        self._notifier: Notifier | None = None
        self._opened = False
        self._paths: dict[int, str] = {}
        self._directories: dict[int, dict[str, int]] = {}
        self._files: dict[int, int] = {}
        self._budget: dict[int, int] = {}
        self._changes_left = 0
        self._last: dict[int, Identity | None] = {}
        self._messages: dict[int, str] = {}

    @property
    def fd(self) -> int | None:
        """The inotify descriptor; None where there is none."""
        return None if self._notifier is None else self._notifier.fd

    def open(self, ranks: Iterable[RankSpec], *, wall: float) -> None:
        """Acquire the descriptor, unless no rank has an error file.

        Args:
            ranks: of the job.
            wall: seconds since the epoch: files that are much older are of an earlier job.
        """
        self._too_old_ns = (wall - LONG_BEFORE) * 1e9
        if any(spec.error_file is not None and os.fspath(spec.error_file) != os.devnull for spec in ranks):
            self._notifier = Notifier.open()

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self._notifier is not None:
            self._notifier.close()

    def watch(self, spec: RankSpec) -> None:
        """Watch the error file of a rank that is about to be started."""
        if spec.error_file is None or os.fspath(spec.error_file) == os.devnull:
            return
        path = self._paths[spec.rank] = os.path.realpath(spec.error_file)
        self._budget[spec.rank] = READ_LIMIT
        self._last[spec.rank] = identify(path)
        directory, name = os.path.split(path)
        watch = None if self._notifier is None else self._notifier.watch_arrivals(directory)
        if watch is None:
            self.unwatched.add(spec.rank)
        else:
            self._directories.setdefault(watch, {})[name] = spec.rank
            if self._last[spec.rank] is not None:
                self._watch_file(spec.rank)

    def begin_turn(self) -> None:
        """Bound the changes that count from now on: no rank may hold up the launcher by changing files."""
        self._changes_left = STORM + STORM_PER_RANK * len(self._paths)

    def announced(self) -> list[int]:
        """Ranks whose error files may have become complete, in the order in which their first change was announced.

        A temporary file that ``record`` renames later counts for the rank that makes it: its record has begun. What
        is of no rank is there as ``NOBODY``.
        """
        ranks: dict[int, None] = {}
        for watch, name, ended in () if self._notifier is None else self._notifier.read():
            self._changes_left -= 1
            if self._changes_left < 0:
                self._stop_watching()
                break
            rank = NOBODY
            if watch == LOST:
                self.unwatched.update(self._paths)
            elif ended:
                self._files.pop(watch, None)
                self.unwatched.update(self._directories.pop(watch, {}).values())
            elif watch in self._files:
                rank = self._files[watch]
            else:
                names = self._directories.get(watch, {})
                rank = names.get(name, NOBODY)
                if rank == NOBODY and len(names) == 1 and name.startswith(".") and name.endswith(".error"):
                    (rank,) = names.values()
                if rank != NOBODY:
                    self._watch_file(rank)
            ranks[rank] = None
        return list(ranks)

    def _stop_watching(self) -> None:
        """Look at error files from now on, as where nothing is announced: a rank changes files all the time."""
        self.unwatched.update(self._paths)
        if self._notifier is not None:
            self._notifier.close()  # which takes it out of the epoll, too
            self._notifier = None

    def changed(self) -> list[tuple[int, int]]:
        """Those of ``unwatched`` whose error file changed since the last look, with the kernel's time of the change
        (ctime, in nanoseconds), oldest first."""
        found = []
        for rank in self.unwatched:
            identity = identify(self._paths[rank])
            if identity is not None and identity != self._last[rank]:
                try:
                    found.append((os.stat(self._paths[rank]).st_ctime_ns, rank))
                except OSError:
                    continue
        return [(rank, ctime) for ctime, rank in sorted(found)]

    def look(self, rank: int, pid: int) -> str | None:
        """Read the error file of a rank: the message, if the rank itself has recorded another error than before.

        The work is bounded: of the error files of one rank, ``READ_LIMIT`` bytes are read in all.
        """
        path, identity = self._paths[rank], identify(self._paths[rank])
        self._last[rank] = identity
        if identity is None or identity == self._stale.get(rank) or identity.mtime_ns < self._too_old_ns:
            return None
        found = read(path, limit=self._budget[rank])
        self._budget[rank] = max(0, self._budget[rank] - identity.size)
        if not isinstance(found, ErrorRecord) or found.pid not in (None, pid):
            return None
        if self._messages.get(rank) == found.message:
            return None
        self._messages[rank] = found.message
        return found.message

    def _watch_file(self, rank: int) -> None:
        """Hear when the file is closed after writing: it was created, and may be incomplete, or is written again."""
        assert self._notifier is not None
        watch = self._notifier.watch_completion(self._paths[rank])
        if watch is not None:
            self._files[watch] = rank
