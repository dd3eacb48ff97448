"""Reading of what is appended to many files, in one thread, without checking the unchanged ones.

In an event loop, with a console that may be blocked and an observer that receives everything::

    tail = Tail({(0, "stdout"): path0, (1, "stdout"): path1})
    console = ConsoleSink(sys.stdout, prefix=lambda key: f"[trainer{key[0]}]:", on_room=loop.wake)
    on_console = tail.add(console.take, ready=console.ready)  # waits while the console is full: the file is the buffer
    tail.add(lambda key, lines: observe(key, lines.texts()))  # has a separate position, and never waits
    console.start()                                           # in the thread that prints: its own output goes first
    tail.open()                                               # before the ranks start
    ...
    selector.register(tail.fd)                                # if tail.fd is not None
    ...                                                       # readable, woken, or tail.interval seconds have passed:
    more = tail.poll()                                        # if more: call again at once, after the other events
    ...
    tail.finish((0, "stdout"))                                # after the exit of rank 0, when its group is swept
    ...                                                       # poll on, until tail.done or a deadline
    missed = tail.behind(on_console)                          # bytes that a blocked console did not accept ...
    tail.close()
    missed += console.close(idle=1.0, limit=5.0)              # ... and that it still did not
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
"""Initial seconds between two checks of files with announced changes; each check without a change doubles them."""

QUIET_INTERVAL = 64.0
"""Maximum seconds between two such checks: the kernel announces writes on this machine, but file systems differ."""

UNWATCHED_INTERVAL = 0.1


class Feed(Generic[K]):
    """One reader of a ``Tail``: a callback for the lines of some files, with a separate position in each file."""

    def __init__(
        self, receive: Callable[[K, Lines], None], keys: frozenset[K], ready: Callable[[K], bool] | None
    ) -> None:
        self.receive = receive
        self.keys = keys
        self.ready = ready
        self.broken = False

    def is_ready(self, key: K) -> bool:
        """Return whether it accepts lines of this file now."""
        return not self.broken and (self.ready is None or self.ready(key))

    def give(self, key: K, blocks: list[Lines]) -> None:
        """Pass lines on. A reader that raises gets no more: the job continues without it."""
        for block in blocks:
            try:
                self.receive(key, block)
            except Exception:
                self.broken = True
                _log.exception("a reader of log lines failed at %r and gets no more of them", key)
                return


class Tail(Generic[K]):
    """A follower of files by any kind of key. Not thread-safe, and never blocks.

    Args:
        files: the files, which need not exist yet.
        existing: whether to "skip" the content of a file before ``open`` (from an earlier attempt), or to "read" it.
        notify: whether inotify is used where it exists; without it every ``poll`` checks every file.
        clock: source of the time.
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
        """Pass the lines of some files, or of all, to ``receive(key, lines)``.

        Args:
            receive: called in ``poll`` and ``finish``; must not block. If it raises, it is not called again.
            keys: files to read; None for all.
            ready: called before each block. While it returns False, this reader's part of that file stays unread.
        """
        feed = Feed(receive, frozenset(self._files if keys is None else keys), ready)
        self._feeds.append(feed)
        self._unread.update(dict.fromkeys(self._files))
        return feed

    def open(self) -> Self:
        """Record the present end of each file. Call it before the writers start; otherwise ``poll`` does it."""
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
        """All descriptors that it holds now: a forked child does not need them."""
        files = tuple(source.fd for file in self._files.values() for source in file.sources)
        return files if self._notifier is None else (self._notifier.fd, *files)

    @property
    def interval(self) -> float:
        """Seconds after which ``poll`` should be called even without a notification."""
        return self._patience if self._all_watched and not self._held_up else UNWATCHED_INTERVAL

    @property
    def held_up(self) -> bool:
        """Whether the last ``poll`` has left something unread because a reader was not ready for it."""
        return self._held_up

    @property
    def done(self) -> bool:
        """Whether every file was finished, and its readers have all of its content."""
        return all(self.finished(key) for key in self._files)

    def finished(self, key: K) -> bool:
        """Return whether ``finish`` was called for this file and its readers have all of its content."""
        file = self._files[key]
        return file.finishing and all(file.is_done_for(feed) for feed in self._feeds_of(key))

    def poll(self, budget: int = 1 << 20) -> bool:
        """Pass pending lines to every reader that is ready, and return whether there are more.

        Args:
            budget: bytes after which it returns, so that a flood does not block the caller; each file has its turn.
        """
        self.open()
        unprompted = self._read_notifications()
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
            has_read = budget < budget_before
            self._patience = WATCHED_INTERVAL if has_read else min(2 * self._patience, QUIET_INTERVAL)
        self._held_up = bool(held_up)
        self._unread.update(dict.fromkeys(queue))
        self._unread.update(held_up)
        return bool(queue)

    def finish(self, key: K) -> bool:
        """Read a file to its present size and no further, and pass on a last line without line end: its writer ended.

        Returns:
            False if there is much to read, or a reader is full: then ``poll`` continues with it.
        """
        self.open()
        self._files[key].finish(self._notifier)
        for _ in range(4):
            _, more, _ = self._serve(key)
            if not more:
                break
        self._unread[key] = None
        return self.finished(key)

    def with_open_line(self, feed: Feed[K]) -> list[K]:
        """Return the files that end in the middle of a line that this reader has not received yet."""
        return [
            key
            for key in feed.keys
            if key in self._files and any(source.cursor(feed).has_open for source in self._files[key].sources)
        ]

    def give_open_line(self, feed: Feed[K], key: K) -> None:
        """Pass the beginning of such a line to a reader that is ready. The rest follows as its continuation."""
        for source in self._files[key].sources:
            if feed.is_ready(key):
                feed.give(key, source.cursor(feed).give_open())

    def behind(self, feed: Feed[K]) -> int:
        """Return how many bytes in the files have not reached this reader yet."""
        return sum(self._files[key].behind(feed) for key in feed.keys if key in self._files)

    def close(self) -> None:
        """Close all descriptors. Unread content stays in the files."""
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
        """Serve one turn of one file; return the bytes read, whether there is more, and whether a reader was full."""
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

    def _read_notifications(self) -> bool:
        """Determine which files may have new content: those that changed, or from time to time all.

        Returns:
            Whether all are checked although no change was announced.
        """
        lost = notified = False
        for watch, _, ended in () if self._notifier is None else self._notifier.read():
            lost, notified = lost or watch < 0, True
            self._unread.update(dict.fromkeys(self._file_watches.get(watch, ())))
            for key in self._directory_watches.get(watch, ()):
                self._look(key)
            if ended:
                self._file_watches.pop(watch, None)
                self._directory_watches.pop(watch, None)
        if lost or not self._all_watched or self._clock.now() - self._looked_at >= self._patience:
            self._look_at_all(announced=lost or not self._all_watched)
            return not notified and self._all_watched
        return False

    def _look_at_all(self, *, skip: bool = False, announced: bool = True) -> None:
        """Check every path and read every file; without an announced change, only if anything has changed."""
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
        """Watch each directory that exists; a second watch of the same directory changes nothing."""
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
