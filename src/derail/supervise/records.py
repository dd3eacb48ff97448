"""Error files of running ranks: which are complete, and their messages, as soon as the kernel announces them.

The kernel's announcement is evidence of *when* a rank recorded an error; a time that the rank wrote is not. A file is
announced when its name appears in the watched directory, and at each write to it. It is complete when it can be
decoded, whether its writer keeps it open or not.

The kernel does not announce every change: none through a memory map, and none after a directory above was renamed. So
before a rank is blamed or stopped, the files of all ranks are checked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from derail.errors.identity import READ_LIMIT, identify, may_be_whole
from derail.platform.inotify import LOST, Notifier

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from derail.errors.identity import Identity
    from derail.model.spec import RankSpec

STORM, STORM_PER_RANK = 1024, 256
"""Changes that are processed in one turn, and additional ones for each rank. A rank fails with four or fewer."""

CHANGES_PER_RANK = 16384
"""Changes of its error file that are processed in total, before the file is only checked. Each wakes the launcher."""

REWATCHES = 16
"""Number of times a directory is watched again, after a rank has moved or removed it."""

NOBODY = -1
"""Stands for changes that belong to no rank, among the ranks with announced changes."""


_Target: TypeAlias = tuple[int, str]
"""A rank, and a path under which its error file appears."""


class Found(NamedTuple):
    """A record of a rank.

    Attributes:
        rank: local rank.
        message: the recorded error; None if the file was announced, and is read when that is needed.
        announced: whether the kernel announced the change that completed it.
        ctime_ns: the kernel's time of the file; None where the record may be newer than that, as through a memory map.
    """

    rank: int
    message: str | None
    announced: bool = True
    ctime_ns: int | None = None


class Records:
    """Watcher of the error files of one job with one inotify descriptor. Belongs to the job's thread.

    Of the error files of one rank, ``READ_LIMIT`` bytes are read at once, when a change is announced. Later changes are
    only stored, and the file is read when that is needed to blame or stop a rank: again ``READ_LIMIT`` bytes.

    Attributes:
        unheard: ranks with possible changes that were not announced, because changes were lost or a directory is not
            the watched one. The place of such a record among announced ones is unknown.
    """

    def __init__(self, stale: Mapping[int, Identity]) -> None:
        self.unheard: set[int] = set()
        self._stale = dict(stale)
        self._notifier: Notifier | None = None
        self._paths: dict[int, str] = {}
        self._names: dict[int, dict[str, _Target]] = {}
        self._missing: dict[int, dict[str, set[_Target]]] = {}
        self._files: dict[int, int] = {}
        self._at_once: dict[int, int] = {}
        self._at_need: dict[int, int] = {}
        self._changes: dict[int, int] = {}
        self._changes_left = 0
        self._rewatches: dict[int, int] = {}
        self._last: dict[int, Identity | None] = {}
        self._incomplete: set[int] = set()
        self._put_off: dict[int, Identity] = {}
        self._messages: dict[int, str] = {}

    @property
    def fd(self) -> int | None:
        """The inotify descriptor; None where there is none."""
        return None if self._notifier is None else self._notifier.fd

    def open(self, ranks: Iterable[RankSpec]) -> None:
        """Acquire the descriptor, unless no rank has an error file."""
        if any(spec.error_file is not None and os.fspath(spec.error_file) != os.devnull for spec in ranks):
            self._notifier = Notifier.open()

    def close(self, *, wait: bool = True) -> None:
        """Close the descriptor; ``wait`` until it is out of every epoll. Idempotent."""
        if self._notifier is not None:
            self._notifier.close(wait=wait)
            self._notifier = None

    def watch(self, spec: RankSpec) -> None:
        """Watch the error file of a rank that is about to be started: its name, and the target of a link there."""
        if spec.error_file is None or os.fspath(spec.error_file) == os.devnull:
            return
        rank, path = spec.rank, os.path.abspath(spec.error_file)
        self._paths[rank] = path
        self._at_once[rank] = self._at_need[rank] = READ_LIMIT
        self._changes[rank] = CHANGES_PER_RANK
        self._rewatches[rank] = REWATCHES
        self._last[rank] = None
        self._watch_name((rank, path))
        if os.path.lexists(path):  # later changes are announced
            self._last[rank] = identify(path)
            if os.path.islink(path):
                self._watch_name((rank, os.path.realpath(path)))
            self._watch_content(rank)

    def begin_turn(self) -> None:
        """Reset the limit of changes in a turn: no rank may delay the launcher by changing files."""
        self._changes_left = STORM + STORM_PER_RANK * len(self._paths)

    def announced(self) -> list[int]:
        """Return ranks with possibly complete error files, in the order of their first announced changes.

        A temporary file that ``record`` renames later counts for the rank that makes it: its record has begun. A
        change of no rank is returned as ``NOBODY``.
        """
        ranks: dict[int, None] = {}
        for watch, name, ended in () if self._notifier is None else self._notifier.read():
            self._changes_left -= 1
            if self._changes_left < 0:
                self.close()  # this also removes it from the epoll: from now on files are only checked
                break
            if watch == LOST:
                self.unheard.update(self._paths)
            for rank in self._concerned(watch, name, ended=ended):
                ranks[rank] = None
        return list(ranks)

    def changed(self, ranks: Collection[int] | None = None) -> list[int]:
        """Return ranks with error files that may have another record than at the last check.

        Those with a known order of announcements are first, in that order; the others follow by the kernel's time.
        Incomplete files are included: a memory map changes them without any trace.

        Args:
            ranks: ranks to check; by default all.
        """
        changes = []
        for rank in self._paths if ranks is None else ranks:
            identity = identify(self._paths[rank])
            if identity is not None and (identity != self._last[rank] or rank in self._incomplete):
                changes.append((identity.ctime_ns, rank))
        put_off = [rank for rank in self._put_off if ranks is None or rank in ranks]
        return list(dict.fromkeys([*put_off, *(rank for _, rank in sorted(changes))]))

    def look(self, rank: int, pid: int) -> Found | None:
        """Return the record of a rank, if the rank itself has recorded another error than before.

        The file is read only if the work for that is within the limit.
        """
        identity = identify(self._paths[rank])
        put_off = self._put_off.pop(rank, None)
        if identity is not None and identity.size > self._at_once[rank]:
            self._put_off[rank] = self._last[rank] = identity
            return None if identity == put_off else Found(rank, None)
        message = self._read(rank, pid, identity, self._at_once)
        return None if message is None else Found(rank, message)

    def look_closely(self, rank: int, pid: int) -> Found | None:
        """Return the record of a rank as ``look`` does, because a rank is to be blamed or stopped."""
        identity, last, put_off = identify(self._paths[rank]), self._last[rank], self._put_off.pop(rank, None)
        if identity is not None and identity.size > self._at_need[rank]:
            self._last[rank] = identity
            return None
        message = self._read(rank, pid, identity, self._at_need)
        if message is None or identity is None:
            return None
        by_map = rank in self._files.values() and rank not in self.unheard  # a write would have been announced
        ctime_ns = None if identity == last or by_map else identity.ctime_ns
        return Found(rank, message, announced=identity == put_off, ctime_ns=ctime_ns)

    def _read(self, rank: int, pid: int, identity: Identity | None, work: dict[int, int]) -> str | None:
        from derail.errors.protocol import ErrorRecord, read  # most jobs have no error file to read

        path = self._paths[rank]
        self._last[rank] = identity
        self._incomplete.discard(rank)
        if identity is None:
            return None
        record = None
        if may_be_whole(path):
            work[rank] -= identity.size
            record = read(path, stale=self._stale.get(rank))
        if not isinstance(record, ErrorRecord):
            self._incomplete.add(rank)
            return None
        if record.pid not in (None, pid) or self._messages.get(rank) == record.message:
            return None
        self._messages[rank] = record.message
        return record.message

    def _concerned(self, watch: int, name: str, *, ended: bool) -> list[int]:
        """Return the ranks that a change concerns."""
        if watch in self._files:
            rank = self._files[watch]
            self._count(rank)
            if ended:
                del self._files[watch]
            return [NOBODY if ended else rank]
        if ended or not name:  # the directory was removed, or moved away with all its names
            return self._watch_again(watch)
        targets = self._missing.get(watch, {}).pop(name, set())
        if targets:  # the directory exists
            return self._watch_names(targets)
        names = self._names.get(watch, {})
        rank, _ = names.get(name, (NOBODY, ""))
        if rank == NOBODY and len(names) == 1 and name.startswith(".") and name.endswith(".error"):
            ((rank, _),) = names.values()
        if rank != NOBODY:
            self._count(rank)
            self._watch_content(rank)
        return [rank]

    def _count(self, rank: int) -> None:
        """Count a change; stop watching files that a rank changes all the time."""
        self._changes[rank] -= 1
        if self._changes[rank] == 0 and self._notifier is not None:
            own = [watch for watch, names in self._names.items() if all(each == rank for each, _ in names.values())]
            for watch in [*own, *(watch for watch, each in self._files.items() if each == rank)]:
                self._names.pop(watch, None)
                self._files.pop(watch, None)
                self._notifier.forget(watch)

    def _watch_again(self, watch: int) -> list[int]:
        """Watch the directories with the names of one that does not exist any more."""
        targets = {*self._names.pop(watch, {}).values(), *set[_Target]().union(*self._missing.pop(watch, {}).values())}
        if targets and self._notifier is not None:
            self._notifier.forget(watch)  # at its new place
        return self._watch_names(targets)

    def _watch_names(self, targets: set[_Target]) -> list[int]:
        """Watch for names again, at most ``REWATCHES`` times for each rank; the change itself belongs to no rank.

        A record may exist already. It is younger than the change of the directory, and may be older: the kernel
        announces a removal only when no file of the directory is open any more.
        """
        for rank, path in sorted(targets):
            self._rewatches[rank] -= 1
            if self._rewatches[rank] >= 0:
                self._watch_name((rank, path))
                self._watch_content(rank)
            self.unheard.add(rank)
        return [NOBODY]

    def _watch_name(self, target: _Target) -> None:
        """Watch for the error file to appear; if its directory does not exist, for that to appear."""
        directory, name = os.path.split(target[1])
        watch = None if self._notifier is None else self._notifier.watch_arrivals(directory)
        if watch is not None:
            self._names.setdefault(watch, {})[name] = target
        elif self._notifier is not None and not os.path.exists(directory):
            above, name = os.path.split(directory)
            watch = self._notifier.watch_arrivals(above)
            if watch is not None:
                self._missing.setdefault(watch, {}).setdefault(name, set()).add(target)
                if os.path.exists(directory):  # it has appeared in between, without an announcement
                    self._watch_names(self._missing[watch].pop(name))

    def _watch_content(self, rank: int) -> None:
        """Watch each write to the file: it was created, and may be incomplete, or is written again."""
        if self._notifier is None or self._changes[rank] <= 0:
            return
        watch = self._notifier.watch_content(self._paths[rank])
        if watch is not None and watch not in self._names and watch not in self._missing:
            self._files[watch] = rank
