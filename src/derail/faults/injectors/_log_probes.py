"""What is seen from outside of a rank's streams: the bytes in its log file, and what its descriptors are."""

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
"""Bytes that one look reads at most: looks are taken in the thread that supervises the ranks."""
BETWEEN = 1 << 16
"""Bytes of others that may stand between two parts."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What a stream of a rank was right before a fault changed it, in the rank's own words.

    Attributes:
        pid: the process that has it.
        fd: its number there.
        identity: device and inode.
        size: of the file.
        file: whether it is a regular file.
        path: the rank's log file.
        copy: device, inode and size of the file to which the rank copies what the stream takes; None if it does not.
    """

    pid: int
    fd: int
    identity: tuple[int, int]
    size: int
    file: bool
    path: Path | None
    copy: tuple[int, int, int] | None = None

    def copied(self) -> Stream:
        """Return the copy of the stream, if there is one: what is in it the launcher's pipe has taken."""
        if self.copy is None:
            return self
        device, inode, size = self.copy
        return replace(self, identity=(device, inode), size=size, file=True)

    def __str__(self) -> str:
        return f"{self.path}" if self.file and self.path is not None else f"descriptor {self.fd} of pid {self.pid}"


def recorded(aim: Aim) -> Stream | None:
    """What the rank recorded of the stream that a fault is about; None if it did not."""
    for record in aim.records:
        if record["event"] == "stream":
            pid, fd, dev, ino, size = (int(str(record[name])) for name in ("by", "fd", "dev", "ino", "size"))
            copy = tuple(map(int, told)) if isinstance(told := record.get("copy"), list) else None
            return Stream(pid, fd, (dev, ino), size, record["file"] is True, log_path(aim), copy)  # type: ignore[arg-type]
    return None


def last(aim: Aim, event: str) -> dict[str, object] | None:
    """The last record of a kind that the rank wrote about the fault."""
    return next((dict(record) for record in reversed(aim.records) if record["event"] == event), None)


def log_path(aim: Aim) -> Path | None:
    """Where the stream that a fault is about is redirected to."""
    return aim.control.log_file(aim.rank, "stdout" if aim.text("stream") == "stdout" else "stderr")


class Search:
    """Looks for parts of bytes, one after the other, in what was appended to a stream's file.

    Attributes:
        found: bytes of the parts that were found so far.
        first: where the first of them begins.
        end: where the last of them ends.
    """

    def __init__(self, stream: Stream, parts: Iterator[bytes]) -> None:
        self.found = 0
        self.first: int | None = None
        self.end = stream.size
        self._stream = stream
        self._parts = parts
        self._next = next(parts, None)

    def look(self, *, whole: bool = False) -> bool:
        """Go on; whether all is found. Without ``whole``, look at no more than ``AT_ONCE`` bytes."""
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
        """Whether nothing stands behind what was found."""
        with opened(self._stream) as fd:
            return fd is not None and os.fstat(fd).st_size == self.end


@contextmanager
def opened(stream: Stream) -> Iterator[int | None]:
    """The file that a stream was, wherever it lies by now; None if it cannot be had."""
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
    """What a descriptor of a process is, as /proc names it; empty if it is closed, None if the process is gone."""
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
    """Device and inode of an open descriptor of a process; None if it cannot be seen."""
    try:
        about = os.stat(PROC / str(pid) / "fd" / str(fd))
    except OSError:
        return None
    return about.st_dev, about.st_ino


def access_mode(pid: int, fd: int) -> int | None:
    """Whether a descriptor of a process is open for reading, writing or both; None if it cannot be seen."""
    try:
        told = (PROC / str(pid) / "fdinfo" / str(fd)).read_text()
    except OSError:
        return None
    flags = next((int(line.split()[1], 8) for line in told.splitlines() if line.startswith("flags:")), None)
    return None if flags is None else flags & os.O_ACCMODE


def number_of(aim: Aim) -> int:
    """The descriptor number of the stream that a fault is about."""
    return NUMBERS[aim.text("stream")]
