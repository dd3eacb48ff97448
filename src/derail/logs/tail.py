"""Reads what is appended to many files, in one thread and without looking at those that did not change.

In an event loop, with a console that may be blocked and an observer that wants to hear everything::

    tail = Tail({(0, "stdout"): path0, (1, "stdout"): path1})
    console = ConsoleSink(sys.stdout, prefix=lambda key: f"[trainer{key[0]}]:", on_room=loop.wake)
    on_console = tail.add(console.take, ready=console.ready)  # waits while the console is full: the file is the buffer
    tail.add(lambda key, lines: observe(key, lines.texts()))  # has a position of its own, and never waits
    console.start()                                           # in the thread that prints: its own output goes first
    tail.open()                                               # before the ranks start
    ...
    selector.register(tail.fd)                                # if tail.fd is not None
    ...                                                       # readable, woken, or tail.interval seconds have passed:
    more = tail.poll()                                        # if more: come back at once, after the other events
    ...
    tail.finish((0, "stdout"))                                # once the exit of rank 0 is known and its group is swept
    ...                                                       # poll on, until tail.done or a deadline
    missed = tail.behind(on_console)                          # what a blocked console did not take, in bytes ...
    tail.close()
    missed += console.close(idle=1.0, limit=5.0)              # ... and what it still did not
"""

from __future__ import annotations

import logging
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from derail.logs.follow import Followed
from derail.model.clock import SYSTEM_CLOCK, Clock
from derail.platform.inotify import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping
    from typing import Self

    from derail.logs.lines import Lines

K = TypeVar("K", bound="Hashable")

_log = logging.getLogger(__name__)

CHUNK = 1 << 18
"""Bytes of one file that are read before the next file has its turn."""

WATCHED_INTERVAL = 8.0
"""Seconds between two looks at files whose changes are announced, at first; each that finds nothing doubles them."""

QUIET_INTERVAL = 64.0
"""Seconds between two such looks at the most: the kernel announces what writers on this machine do, but file systems
differ."""

UNWATCHED_INTERVAL = 0.1


class Feed(Generic[K]):
    """One reader of a ``Tail``: who gets the lines of which files. Each has a position of its own in each file."""

    def __init__(
        self, receive: Callable[[K, Lines], None], keys: frozenset[K], ready: Callable[[K], bool] | None
    ) -> None:
        self.receive = receive
        self.keys = keys
        self.ready = ready
        self.broken = False

    def is_ready(self, key: K) -> bool:
        """Whether it takes lines of this file now."""
        return not self.broken and (self.ready is None or self.ready(key))

    def give(self, key: K, blocks: list[Lines]) -> None:
        """Hand lines over. Whoever raises gets no more: the job goes on without it."""
        for block in blocks:
            try:
                self.receive(key, block)
            except Exception:
                self.broken = True
                _log.exception("a reader of log lines failed at %r and gets no more of them", key)
                return


class Tail(Generic[K]):
    """Follows files by any kind of key. Not thread-safe, and never blocks.

    Args:
        files: the files, which need not exist yet.
        existing: what is in a file before ``open``: "skip" it (it is of an earlier attempt), or "read" it.
        notify: whether inotify is used where it exists; without it every ``poll`` looks at every file.
        clock: where the time comes from.
    """

    def __init__(
        self,
        files: Mapping[K, Path | str],
        *,
        existing: Literal["skip", "read"] = "skip",
        notify: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._files: dict[K, Followed[Feed[K]]] = {key: Followed(Path(path)) for key, path in files.items()}
        self._existing = existing
        self._notify = notify
        self._clock = clock
        self._feeds: list[Feed[K]] = []
        self._notifier: Notifier | None = None
        self._is_open = False
        self._parents: dict[str, set[K]] = {}
        for key, path in files.items():
            self._parents.setdefault(os.path.dirname(path) or ".", set()).add(key)
        self._directory_watches: dict[int, set[K]] = {}
        self._file_watches: dict[int, set[K]] = {}
        self._unread: dict[K, None] = {}
        self._looked_at = 0.0
        self._all_watched = False
        self._patience = WATCHED_INTERVAL
        self._held_up = False

    def add(
        self,
        receive: Callable[[K, Lines], None],
        *,
        keys: Iterable[K] | None = None,
        ready: Callable[[K], bool] | None = None,
    ) -> Feed[K]:
        """Give the lines of some files, or of all, to ``receive(key, lines)``.

        Args:
            receive: called in ``poll`` and ``finish``; must not block. If it raises, it is not called again.
            keys: whose lines; None for all.
            ready: asked before each block. While it says no, this reader's part of that file stays unread.
        """
        feed = Feed(receive, frozenset(self._files if keys is None else keys), ready)
        self._feeds.append(feed)
        self._unread.update(dict.fromkeys(self._files))
        return feed

    def open(self) -> Self:
        """Take note of where each file ends now. Call it before the writers start; ``poll`` does it otherwise."""
        if not self._is_open:
            self._is_open = True
            self._notifier = Notifier.open() if self._notify else None
            self._look_at_all(skip=self._existing == "skip")
        return self

    @property
    def fd(self) -> int | None:
        """A descriptor that is readable when ``poll`` should be called; None if there is none on this system."""
        return None if self._notifier is None else self._notifier.fd

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All descriptors that it holds now: what a forked child has no use for."""
        files = tuple(source.fd for file in self._files.values() for source in file.sources)
        return files if self._notifier is None else (self._notifier.fd, *files)

    @property
    def interval(self) -> float:
        """Seconds after which ``poll`` should be called even if nothing was heard."""
        return self._patience if self._all_watched and not self._held_up else UNWATCHED_INTERVAL

    @property
    def held_up(self) -> bool:
        """Whether the last ``poll`` has left something unread because a reader was not ready for it."""
        return self._held_up

    @property
    def done(self) -> bool:
        """Whether every file was finished, and all that was in it is with its readers."""
        return all(self.finished(key) for key in self._files)

    def finished(self, key: K) -> bool:
        """Whether ``finish`` was called for this file and all that was in it is with its readers."""
        file = self._files[key]
        return file.finishing and all(file.is_done_for(feed) for feed in self._feeds_of(key))

    def poll(self, budget: int = 1 << 20) -> bool:
        """Give what is there to whoever is ready for it, and return whether there is more.

        Args:
            budget: bytes after which it returns, so that a flood does not hold the caller; each file has its turn.
        """
        self.open()
        unprompted = self._hear()
        queue, budget_before = deque(self._unread), budget
        self._unread = {}
        held_up: dict[K, None] = {}
        while queue and budget > 0:
            key = queue.popleft()
            used, more, is_held_up = self._serve(key)
            budget -= used
            if more:
                queue.append(key)
            elif is_held_up:
                held_up[key] = None
        if unprompted:
            found = budget < budget_before
            self._patience = WATCHED_INTERVAL if found else min(2 * self._patience, QUIET_INTERVAL)
        self._held_up = bool(held_up)
        self._unread.update(dict.fromkeys(queue))
        self._unread.update(held_up)
        return bool(queue)

    def finish(self, key: K) -> bool:
        """The writer of this file has ended: read to its present size and no further, and give the last line even if it
        has no line end. False if there is much to read, or a reader is full: then ``poll`` goes on with it."""
        self.open()
        self._files[key].finish(self._notifier)
        for _ in range(4):
            _, more, _ = self._serve(key)
            if not more:
                break
        self._unread[key] = None
        return self.finished(key)

    def with_open_line(self, feed: Feed[K]) -> list[K]:
        """The files that end in the middle of a line which this reader has not been given yet."""
        return [
            key
            for key in feed.keys
            if key in self._files and any(source.cursor(feed).has_open for source in self._files[key].sources)
        ]

    def give_open_line(self, feed: Feed[K], key: K) -> None:
        """Give a reader the beginning of such a line, if it is ready for it. The rest comes as its continuation."""
        for source in self._files[key].sources:
            if feed.is_ready(key):
                feed.give(key, source.cursor(feed).give_open())

    def behind(self, feed: Feed[K]) -> int:
        """Bytes that are in the files and did not reach this reader yet."""
        return sum(self._files[key].behind(feed) for key in feed.keys if key in self._files)

    def close(self) -> None:
        """Close all descriptors. What was not given stays in the files."""
        for file in self._files.values():
            file.close(self._notifier)
        if self._notifier is not None:
            self._notifier.close(wait=False)
            self._notifier = None
        self._file_watches.clear()
        self._directory_watches.clear()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, key: K) -> tuple[int, bool, bool]:
        """One turn of one file: bytes looked at, whether there is more to read, whether somebody was not ready."""
        used, more, held_up = 0, False, False
        file = self._files[key]
        for feed in self._feeds_of(key):
            for cursor, blocks in file.read(feed, CHUNK) if feed.is_ready(key) else ():
                feed.give(key, blocks)
                used += cursor.used
                more = more or cursor.more
            if not feed.is_ready(key) and not feed.broken and file.is_waiting_for(feed):
                held_up = True
        return used, more, held_up

    def _feeds_of(self, key: K) -> list[Feed[K]]:
        return [feed for feed in self._feeds if key in feed.keys and not feed.broken]

    def _hear(self) -> bool:
        """Find out which files may have something new: those that changed, or from time to time all.

        Returns:
            Whether all are looked at although nothing was announced.
        """
        lost = heard = False
        for watch, _, ended in () if self._notifier is None else self._notifier.read():
            lost, heard = lost or watch < 0, True
            self._unread.update(dict.fromkeys(self._file_watches.get(watch, ())))
            for key in self._directory_watches.get(watch, ()):
                self._look(key)
            if ended:
                self._file_watches.pop(watch, None)
                self._directory_watches.pop(watch, None)
        if lost or not self._all_watched or self._clock.now() - self._looked_at >= self._patience:
            self._look_at_all(announced=lost or not self._all_watched)
            return not heard and self._all_watched
        return False

    def _look_at_all(self, *, skip: bool = False, announced: bool = True) -> None:
        """Look at every path, and have every file read; where no change was announced, only if anything has changed."""
        self._looked_at = self._clock.now()
        changed = [key for key, file in self._files.items() if not (file.finishing or file.is_as_before())]
        if not announced and not changed:
            return
        if self._notifier is not None:
            self._watch_directories(self._notifier)
        for key in self._files:
            self._look(key, skip=skip)
        self._unread.update(dict.fromkeys(self._files if announced else changed))
        watched: set[K] = set().union(*self._directory_watches.values())
        self._all_watched = all(key in watched and file.is_watched for key, file in self._files.items())

    def _watch_directories(self, notifier: Notifier) -> None:
        """Watch each directory that exists; asking again for one that is watched changes nothing."""
        self._directory_watches = {}
        for path, keys in self._parents.items():
            watch = notifier.watch_directory(path)
            if watch is not None:
                self._directory_watches.setdefault(watch, set()).update(keys)

    def _look(self, key: K, *, skip: bool = False) -> None:
        file = self._files[key]
        if file.finishing or not file.look(self._notifier, skip=skip):
            return
        self._unread[key] = None
        watch = file.sources[-1].watch
        if watch is not None:
            self._file_watches.setdefault(watch, set()).add(key)
