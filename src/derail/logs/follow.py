"""One log file that is followed while it is appended to, cut, replaced, removed, or is no regular file."""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import TYPE_CHECKING, Generic, TypeVar

from derail.logs.lines import LineAssembler

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from pathlib import Path

    from derail.logs.lines import Lines
    from derail.platform.inotify import Notifier

K = TypeVar("K", bound="Hashable")

_log = logging.getLogger(__name__)

_MARK = 32
_SOURCES = 8
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Cursor:
    """The position of one reader in one file.

    The file is the buffer. A line beyond the length limit is passed on only when its end is in the file. So all its
    pieces can follow each other.

    Attributes:
        more: whether the last ``read`` left something unread that was already in the file.
        done: whether the end set by ``end_at`` is reached and the last line is passed on.
        used: bytes that the last ``read`` examined.
    """

    __slots__ = (
        "_after_cut",
        "_assembler",
        "_end",
        "_line_end",
        "_mark",
        "_offset",
        "_scanned",
        "done",
        "more",
        "used",
    )

    def __init__(self, fd: int, offset: int) -> None:
        self._offset = offset
        self._mark = os.pread(fd, _MARK, max(0, offset - _MARK))[:offset] if offset else b""
        self._assembler = LineAssembler()
        self._scanned = 0
        self._line_end = 0
        self._end: int | None = None
        self._after_cut = False
        self.more = True
        self.done = False
        self.used = 0

    def end_at(self, size: int) -> None:
        """Ignore everything beyond ``size``: the writer has ended."""
        if self._end is None:
            self._end = size

    def behind(self, size: int) -> int:
        """Return how many bytes of a file of ``size`` bytes were not passed on yet."""
        if self.done:
            return 0
        end = size if self._end is None else min(size, self._end)
        return max(0, end - self._offset) + self._assembler.pending

    @property
    def has_open(self) -> bool:
        """Whether the file ends in the middle of a line, part of which was not passed on yet."""
        return self._assembler.pending > 0 and not self.done

    def give_open(self) -> list[Lines]:
        """Return that beginning of a line."""
        return self._assembler.give_open()

    def read(self, fd: int, chunk: int) -> list[Lines]:
        """Read at most about ``chunk`` bytes; return the lines that are complete now."""
        self.more = False
        self.used = 0
        if self._scanned > self._offset >= self._line_end and self._end is None:
            return self._scan(fd, chunk)
        marked = len(self._mark)
        size = marked + chunk
        if self._end is not None:
            size = max(marked, min(size, self._end - self._offset + marked))
        data = os.pread(fd, size, self._offset - marked)
        if not data.startswith(self._mark):
            return self._begin_again(fd)
        fresh = data[marked:]
        self.used = len(fresh)
        if not fresh:
            return self._finish() if self._end is not None else []
        if not self._may_take(fresh):
            self._scanned = self._offset + len(fresh)
            self.more = len(data) == size
            return []
        self._offset += len(fresh)
        self._mark = data[-_MARK:]
        blocks = self._assembler.feed(self._without_hole(fresh) if self._after_cut else fresh)
        self.more = len(data) == size or self._end is not None
        return blocks

    def _may_take(self, fresh: bytes) -> bool:
        """Return whether it fits, or its line has an end in the file."""
        return (
            self._assembler.pending + len(fresh) <= self._assembler.limit
            or self._end is not None
            or self._offset < self._line_end
            or b"\n" in fresh
        )

    def _scan(self, fd: int, chunk: int) -> list[Lines]:
        """Search for the end of a very long line without storing it."""
        data = os.pread(fd, chunk, self._scanned)
        self.used = len(data)
        newline = data.find(b"\n")
        if newline >= 0:
            self._line_end = self._scanned + newline + 1
        self._scanned += len(data)
        self.more = newline >= 0 or len(data) == chunk
        if not data and os.fstat(fd).st_size < self._scanned:
            return self._begin_again(fd)
        return []

    def _begin_again(self, fd: int) -> list[Lines]:
        """Restart after the file was cut, as by ``copytruncate``. A held-back line continues with the new content."""
        self._offset = self._scanned = self._line_end = 0
        self._mark = b""
        self._after_cut = self.more = True
        if self._end is not None:
            self._end = min(self._end, os.fstat(fd).st_size)
        try:  # a writer that does not append leaves a hole where the old lines were
            self._offset = os.lseek(fd, 0, os.SEEK_DATA)
        except (OSError, AttributeError):
            pass
        last = self._assembler.finish() if self._assembler.open else None
        return [] if last is None else [last]

    def _without_hole(self, fresh: bytes) -> bytes:
        fresh = fresh.lstrip(b"\0")
        self._after_cut = not fresh
        return fresh

    def _finish(self) -> list[Lines]:
        self.done = True
        last = self._assembler.finish()
        return [] if last is None else [last]


class Source(Generic[K]):
    """An open regular file, and the position of each reader (by its own key) in it."""

    def __init__(self, fd: int, about: os.stat_result, start: int, watch: int | None) -> None:
        self.fd = fd
        self.identity = (about.st_dev, about.st_ino)
        self.start = start
        self.watch = watch
        self.end: int | None = None
        self._cursors: dict[K, Cursor] = {}

    def cursor(self, reader: K) -> Cursor:
        """Return the position of a reader; a new reader begins where the first one began."""
        cursor = self._cursors.get(reader)
        if cursor is None:
            cursor = self._cursors[reader] = Cursor(self.fd, self.start)
            if self.end is not None:
                cursor.end_at(self.end)
        return cursor

    @property
    def is_done(self) -> bool:
        """Whether it was finished and every reader has reached its end."""
        return self.end is not None and all(cursor.done for cursor in self._cursors.values())

    def finish(self) -> None:
        """Limit all readers to the present size."""
        if self.end is None:
            self.end = os.fstat(self.fd).st_size
            for cursor in self._cursors.values():
                cursor.end_at(self.end)


class Followed(Generic[K]):
    """All files found under one path so far, oldest first; the newest is the present one.

    Moved or removed files are still read: a rank keeps writing to the file that it was started with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sources: list[Source[K]] = []
        self.finishing = False
        self._said: set[str] = set()
        self._noted: tuple[int, int, int, int] | None = None

    @property
    def is_watched(self) -> bool:
        """Whether changes of all its files are announced; true of a file that does not exist yet."""
        return all(source.watch is not None for source in self.sources)

    def look(self, notifier: Notifier | None, *, skip: bool = False) -> bool:
        """Check which file the path names now, and open it if it is new; return whether it is.

        Args:
            notifier: watches the file, starting before the first read.
            skip: begin at its present end.
        """
        try:
            about = os.stat(self.path)
            if self.sources and self.sources[-1].identity == (about.st_dev, about.st_ino):
                return False
            if not stat.S_ISREG(about.st_mode):
                self._say("it is not a regular file; it is read once it is one")
                return False
            if any(source.identity == (about.st_dev, about.st_ino) for source in self.sources):
                return False
            fd = os.open(self.path, _OPEN)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self._say(f"{error.strerror}; it is read once that is possible")
            return False
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            os.close(fd)
            return False
        watch = None if notifier is None else notifier.watch_file(fd)
        self._let_go(notifier)
        self.sources.append(Source(fd, about, os.fstat(fd).st_size if skip else 0, watch))
        self._noted = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)  # it is watched, and read next
        return True

    def is_as_before(self) -> bool:
        """Return whether the path names the same unchanged file as at the last call, or as when it was opened.

        Costs one ``stat``; False whenever more would be needed to decide.
        """
        before = self._noted
        try:
            about = os.stat(self.path)
        except OSError:
            self._noted = None
            return False
        self._noted = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        return self._noted == before and len(self.sources) == 1 and self.sources[0].identity == before[:2]

    def _let_go(self, notifier: Notifier | None) -> None:
        """Limit the number of open files under frequent replacement: the oldest get at most one last read each."""
        while self.sources and self.sources[0].is_done:
            self._close(self.sources.pop(0), notifier)
        for source in self.sources[: max(0, len(self.sources) - _SOURCES + 1)]:
            source.finish()

    @staticmethod
    def _close(source: Source[K], notifier: Notifier | None) -> None:
        if notifier is not None and source.watch is not None:
            notifier.forget(source.watch)
        os.close(source.fd)

    def _say(self, what: str) -> None:
        """Log a problem, once for each kind."""
        if what not in self._said and str(self.path) != os.devnull:
            self._said.add(what)
            _log.warning("log file %s: %s", self.path, what)

    def finish(self, notifier: Notifier | None) -> None:
        """Limit reading to the present sizes: the writer has ended."""
        if not self.finishing:
            self.look(notifier)
            self.finishing = True
            for source in self.sources:
                source.finish()

    def read(self, reader: K, chunk: int) -> Iterator[tuple[Cursor, list[Lines]]]:
        """Advance a reader through each file in turn; the next file only if the ones before had nothing."""
        for source in self.sources:
            cursor = source.cursor(reader)
            if cursor.done:
                continue
            try:
                yield cursor, cursor.read(source.fd, chunk)
            except OSError as error:
                self._say(f"{error.strerror} while reading")
                cursor.more, cursor.done = False, self.finishing
            if cursor.more:
                return

    def is_waiting_for(self, reader: K) -> bool:
        """Return whether anything is pending for a reader, even if only the end itself."""
        return self.behind(reader) > 0 or (self.finishing and not self.is_done_for(reader))

    def is_done_for(self, reader: K) -> bool:
        """Return whether a reader has received everything up to the end set by ``finish``."""
        return self.finishing and all(source.cursor(reader).done for source in self.sources)

    def behind(self, reader: K) -> int:
        """Return how many bytes in the files were not passed to a reader yet."""
        return sum(source.cursor(reader).behind(os.fstat(source.fd).st_size) for source in self.sources)

    def close(self, notifier: Notifier | None) -> None:
        """Close all files."""
        while self.sources:
            self._close(self.sources.pop(), notifier)
