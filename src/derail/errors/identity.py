"""Identity of the file under a name: recognises the error file of an earlier attempt, and a changed one, without
parsing it."""

from __future__ import annotations

import os
import stat
from binascii import crc32
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_LIMIT = 8 << 20
"""Bytes of an error file that are read; a larger file is Malformed, with the readable part of its beginning."""

SAFELY = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Flags to open a path that may be any kind of file."""

_TAIL = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity and content of the file under a name at one moment.

    Attributes:
        device: of the file.
        inode: of the file.
        mtime_ns: time of its content, which its owner can set.
        size: in bytes.
        ctime_ns: time of its last change of any kind. Only the kernel sets it.
        checksum: of the content, where that was read; a new mode or owner does not change it.
    """

    device: int
    inode: int
    mtime_ns: int
    size: int
    ctime_ns: int
    checksum: int | None = field(default=None, compare=False)

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Convert the result of ``stat``."""
        return cls(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_ctime_ns)

    def is_left(self, now: Identity, data: bytes) -> bool:
        """Return whether the same file is there ``now``, without a write to it since; ``data`` is its content."""
        if now == self:
            return True
        return replace(now, ctime_ns=self.ctime_ns) == self and crc32(data) == self.checksum


def identify(path: str | os.PathLike[str]) -> Identity | None:
    """Return the identity of the file under ``path``, to recognise it later; None if there is none or no access."""
    try:
        return Identity.of(os.stat(path))
    except (OSError, ValueError):
        return None


def identify_content(path: str | os.PathLike[str]) -> Identity | None:
    """Return the identity as ``identify`` does, with the checksum, so that a new mode or owner is not a change."""
    if not os.path.lexists(path):
        return None  # the usual case
    try:
        with _opened(path) as fd:
            before = Identity.of(os.fstat(fd))
            return replace(before, checksum=crc32(read_bytes(fd, READ_LIMIT + 1)))
    except (OSError, ValueError):
        return identify(path)


def may_be_whole(path: str | os.PathLike[str]) -> bool:
    """Return whether a file ends like a document, or its end cannot be judged; False for one that is being written.

    This avoids decoding a file that still grows.
    """
    try:
        with _opened(path) as fd:
            size = os.fstat(fd).st_size
            tail = os.pread(fd, _TAIL, max(0, size - _TAIL)).strip(b"\0 \t\r\n")
    except (OSError, ValueError):
        return True
    return tail.endswith(b"}") or (not tail and size > _TAIL)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[int]:
    """Open a regular file for reading.

    Raises:
        OSError, ValueError: if it cannot be opened, or is not a regular file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{os.fspath(path)!r} is no regular file")
    fd = os.open(path, SAFELY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(f"{os.fspath(path)!r} is no regular file any more")
        yield fd
    finally:
        os.close(fd)


def read_bytes(fd: int, count: int) -> bytes:
    """Read up to ``count`` bytes from the start of a file, independent of its reported size."""
    chunks: list[bytes] = []
    offset = 0
    while offset < count and (chunk := os.pread(fd, min(1 << 20, count - offset), offset)):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)
