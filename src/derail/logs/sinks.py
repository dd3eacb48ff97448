"""Destinations for the lines of a job: the console with a prefix, a filtered file, the last lines in memory."""

from __future__ import annotations

import logging
import os
import stat
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from derail.logs.destinations import Destination, acquire, release
from derail.logs.lines import shown
from derail.logs.outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from pathlib import Path
    from typing import TextIO

    from derail.logs.lines import Lines

K = TypeVar("K", bound="Hashable")

_log = logging.getLogger(__name__)


class ConsoleSink(Generic[K]):
    """A writer of the lines of many streams to one console, each whole and with its prefix, flushed at once.

    A console that is blocked, full, closed or broken never blocks ``take``: a regular file is written at once, anything
    else by a thread that all sinks to the same destination share, including those of other jobs.

    Args:
        dst: ``sys.stdout``, another text stream, or None for no console at all.
        prefix: returns the prefix of the lines of a key.
        on_room: called from another thread when ``ready`` may return True again.
    """

    def __init__(
        self,
        dst: TextIO | None,
        *,
        prefix: Callable[[K], str] | None = None,
        on_room: Callable[[], None] | None = None,
    ) -> None:
        self._dst = dst
        self._prefix = prefix
        self._on_room = on_room
        self._prefixes: dict[K, bytes] = {}
        self._outlet: Outlet | None = None
        self._destination: Destination | None = None
        self._missed = 0
        self._closed = False

    def start(self, *, patience: float = 0.2) -> None:
        """Write what was printed before the job first, within ``patience`` seconds.

        Call it in the thread that prints, before the ranks start.
        """
        if self._open() and self._destination is not None and self._outlet is not None:
            self._destination.greet(self._outlet, patience)

    def take(self, key: K, lines: Lines) -> None:
        """Put lines on the console, soon. Never blocks and never raises; unwritable bytes are counted."""
        data = lines.prefixed(self._prefix_of(key))
        if not self._open() or self._destination is None or self._outlet is None:
            self._missed += len(data) if self._closed else 0
            return
        floor = (self._outlet, key)
        if self._destination.floor not in (None, floor):
            data = b"\n" + data  # the caller did not check `ready`; the other line ends here
        self._destination.floor = floor if lines.more else None
        self._destination.put(data, self._outlet)

    def ready(self, key: K) -> bool:
        """Return whether lines of ``key`` may come now: there is room, and no other stream is inside a line."""
        if self._destination is None:
            return True
        return not self._destination.full and self._destination.floor in (None, (self._outlet, key))

    @property
    def full(self) -> bool:
        """Whether the queue of the console is over its limit."""
        return self._destination is not None and self._destination.full

    def close(self, *, idle: float = 1.0, limit: float = 5.0) -> int:
        """Wait for the console to accept the queued output, and end the thread if it has no other user.

        Args:
            idle: seconds without progress after which to give up.
            limit: seconds in total after which to give up; 0 only checks.

        Returns:
            The bytes that it did not accept, during the whole job. A second call returns the same number.
        """
        outlet, destination = self._outlet, self._destination
        self._closed = True
        if outlet is not None and destination is not None:
            self._outlet = self._destination = None
            destination.drain(outlet, idle=idle, limit=limit)
            release(outlet, destination, patience=max(0.3, min(idle, limit)))
            self._missed += outlet.missed
        return self._missed

    def _open(self) -> bool:
        if self._destination is None and self._dst is not None and not self._closed:
            self._outlet = Outlet(self._dst, self._on_room)
            self._destination = acquire(self._outlet)
        return self._destination is not None

    def _prefix_of(self, key: K) -> bytes:
        if key not in self._prefixes:
            text = "" if self._prefix is None else self._prefix(key)
            self._prefixes[key] = text.encode("utf-8", "replace")
        return self._prefixes[key]


class FilteredFile(Generic[K]):
    """A file with the lines of all streams that contain any of some strings, each with its prefix.

    For a line beyond the line limit, the first piece decides. An existing file is appended to.
    """

    def __init__(self, path: Path | str, needles: Iterable[str], *, prefix: Callable[[K], str] | None = None) -> None:
        self._path = os.fspath(path)
        self._needles = tuple(needle.encode("utf-8", "surrogateescape") for needle in needles)
        self._prefix = prefix
        self._fd = -1
        self._chosen: set[K] = set()
        self._broken = ""

    def take(self, key: K, lines: Lines) -> None:
        """Write the lines that match. A failure is logged once and has no other effect."""
        chosen = self._choose(key, lines)
        if not chosen or self._broken:
            return
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            view = memoryview(chosen)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self._broken = str(error)
            _log.warning("filtered log file %s gets no more lines: %s", self._path, error.strerror)

    def _choose(self, key: K, lines: Lines) -> bytes:
        continues_chosen = lines.continues and key in self._chosen
        self._chosen.discard(key)
        if not continues_chosen and not any(needle in lines.data for needle in self._needles):
            return b""
        prefix = b"" if self._prefix is None else self._prefix(key).encode("utf-8", "replace")
        chosen = []
        parts = lines.split()
        for number, line in enumerate(parts):
            is_first, is_last = number == 0, number == len(parts) - 1
            is_rest = is_first and lines.continues
            if continues_chosen if is_rest else any(needle in line for needle in self._needles):
                chosen.append((b"" if is_rest else prefix) + line)
                chosen.append(b"" if is_last and lines.more else b"\n")
                if is_last and lines.more:
                    self._chosen.add(key)
        return b"".join(chosen)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LastLines(Generic[K]):
    """Storage for the end of each stream: at most ``count`` lines, and about ``max_bytes`` bytes."""

    def __init__(self, count: int = 20, *, max_bytes: int = 1 << 16) -> None:
        self._count = count
        self._max_bytes = max_bytes
        self._kept: dict[K, deque[bytes]] = {}

    def take(self, key: K, lines: Lines) -> None:
        """Store the last of these lines, and drop earlier ones for them."""
        kept = self._kept.setdefault(key, deque(maxlen=self._count))
        data = lines.data[-self._max_bytes :]
        new = data.removesuffix(b"\n").split(b"\n")[-self._count :]
        if lines.continues and kept and len(new) == len(lines.split()):
            kept[-1] = (kept[-1] + new.pop(0))[-self._max_bytes :]
        kept.extend(new)
        size = sum(map(len, kept))
        while size > self._max_bytes and len(kept) > 1:
            size -= len(kept.popleft())

    def text(self, key: K) -> str:
        """Return the last lines of a stream, as a terminal would finally show them."""
        return _readable(b"\n".join(self._kept.get(key, ())))


def tail_of(path: Path | str, *, lines: int = 20, max_bytes: int = 1 << 16) -> str:
    """Return the last lines of a file, read from its end; empty if it is unreadable or not a regular file.

    Never raises. Invalid UTF-8 is replaced; a progress bar is reduced to its last redraw; ``...`` precedes a line with
    its beginning left out.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wake its writer
            return ""
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError):
        return ""
    try:
        about = os.fstat(fd)
        start = max(0, about.st_size - max_bytes)
        data = os.pread(fd, max_bytes, start) if stat.S_ISREG(about.st_mode) else b""
    except OSError:
        return ""
    finally:
        os.close(fd)
    parts = data.removesuffix(b"\n").split(b"\n")
    if start and len(parts) <= lines:
        parts[0] = b"..." + _from_character(parts[0])
    return _readable(b"\n".join(parts[-lines:]))


def _from_character(data: bytes) -> bytes:
    """Remove the rest of a character that was cut in two."""
    at = 0
    while at < min(3, len(data)) and data[at] & 0xC0 == 0x80:
        at += 1
    return data[at:]


def _readable(data: bytes) -> str:
    return "\n".join(map(shown, data.decode("utf-8", "replace").split("\n")))
