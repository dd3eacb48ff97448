"""Probes of a rank's streams from outside: the bytes in its log file, and the files behind its descriptors."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from derail.faults.inrank.stream_copies import NUMBERS
from derail.platform.capabilities import PROC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from derail.faults.catalogue.injector_api import Aim

AT_ONCE = 8 << 20
"""Maximum bytes that one check reads: checks run in the thread that supervises the ranks."""
BETWEEN = 1 << 16
"""Maximum bytes of other writers between two parts."""


@dataclass(frozen=True, slots=True)
class Stream:
    """State of a rank's stream right before a fault changed it, as reported by the rank.

    Attributes:
        pid: the process of the stream.
        fd: its descriptor in that process.
        identity: device and inode.
        size: the size of the file in bytes.
        file: whether it is a regular file.
        path: the rank's log file.
        copy: device, inode and size of the rank's copy of the stream; None if there is none.
    """

    pid: int
    fd: int
    identity: tuple[int, int]
    size: int
    file: bool
    path: Path | None
    copy: tuple[int, int, int] | None = None

    def copied(self) -> Stream:
        """Return the copy of the stream, if there is one: it has the bytes that the launcher's pipe has accepted."""
        if self.copy is None:
            return self
        device, inode, size = self.copy
        return replace(self, identity=(device, inode), size=size, file=True)

    def __str__(self) -> str:
        return f"{self.path}" if self.file and self.path is not None else f"descriptor {self.fd} of pid {self.pid}"


def recorded(aim: Aim) -> Stream | None:
    """Return the rank's record of the fault's stream; None if there is none."""
    for record in aim.records:
        if record["event"] == "stream":
            pid, fd, dev, ino, size = (int(str(record[name])) for name in ("by", "fd", "dev", "ino", "size"))
            copy = tuple(map(int, triple)) if isinstance(triple := record.get("copy"), list) else None
            return Stream(pid, fd, (dev, ino), size, record["file"] is True, log_path(aim), copy)  # type: ignore[arg-type]
    return None


def last(aim: Aim, event: str) -> dict[str, object] | None:
    """Return the last record of a kind that the rank wrote about the fault."""
    return next((dict(record) for record in reversed(aim.records) if record["event"] == event), None)


def log_path(aim: Aim) -> Path | None:
    """Return the file to which the fault's stream is redirected."""
    return aim.control.log_file(aim.rank, "stdout" if aim.text("stream") == "stdout" else "stderr")


class Search:
    """Search for consecutive parts of bytes in the data appended to a stream's file.

    Attributes:
        found: the bytes of the parts that were found so far.
        first: the offset of the first part.
        end: the end of the last part.
    """

    def __init__(self, stream: Stream, parts: Iterator[bytes]) -> None:
        self.found = 0
        self.first: int | None = None
        self.end = stream.size
        self._stream = stream
        self._parts = parts
        self._next = next(parts, None)

    def look(self, *, whole: bool = False) -> bool:
        """Continue, and return whether all parts are found; without ``whole``, read at most ``AT_ONCE`` bytes."""
        with opened(self._stream) as fd:
            begun = self.end
            while fd is not None and self._next is not None and (whole or self.end - begun < AT_ONCE):
                data = os.pread(fd, len(self._next) + BETWEEN, self.end)
                at = data.find(self._next)
                if at < 0:
                    return False
                self.first = self.end + at if self.first is None else self.first
                self.end += at + len(self._next)
                self.found += len(self._next)
                self._next = next(self._parts, None)
        return self._next is None

    @property
    def is_last(self) -> bool:
        """Whether the file ends with the last part."""
        with opened(self._stream) as fd:
            return fd is not None and os.fstat(fd).st_size == self.end


@contextmanager
def opened(stream: Stream) -> Iterator[int | None]:
    """Yield the file of a stream, wherever it is now; None if it is not accessible."""
    fd = None
    for name in (stream.path, PROC / str(stream.pid) / "fd" / str(stream.fd)):
        fd = _open(name, stream.identity) if name is not None and stream.file else None
        if fd is not None:
            break
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _open(path: Path, identity: tuple[int, int]) -> int | None:
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode) or (about.st_dev, about.st_ino) != identity:
            return None
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return None


def descriptor(pid: int, fd: int) -> str | None:
    """Return the file of a descriptor as /proc names it; empty if it is closed, None if the process is gone."""
    where = PROC / str(pid) / "fd"
    try:
        return os.readlink(where / str(fd))
    except FileNotFoundError:
        try:
            return "" if os.listdir(where) or (PROC / str(pid) / "exe").exists() else None
        except OSError:
            return None
    except OSError:
        return None


def identity_of(pid: int, fd: int) -> tuple[int, int] | None:
    """Return device and inode of an open descriptor of a process; None if they are not visible."""
    try:
        about = os.stat(PROC / str(pid) / "fd" / str(fd))
    except OSError:
        return None
    return about.st_dev, about.st_ino


def access_mode(pid: int, fd: int) -> int | None:
    """Return the access mode of a descriptor (reading, writing or both); None if it is not visible."""
    try:
        text = (PROC / str(pid) / "fdinfo" / str(fd)).read_text()
    except OSError:
        return None
    flags = next((int(line.split()[1], 8) for line in text.splitlines() if line.startswith("flags:")), None)
    return None if flags is None else flags & os.O_ACCMODE


def number_of(aim: Aim) -> int:
    """Return the descriptor number of the fault's stream."""
    return NUMBERS[aim.text("stream")]
