"""Input files of commands: read in bounded time and size, whatever kind of file they are."""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 16 << 20  # bytes of one file
WRITER_TIMEOUT_S = 10.0  # seconds to wait for the writer of a FIFO


def read_input(path: Path, limit: int = LIMIT) -> bytes:
    """Return the bytes of a regular file, or of a pipe that a process fills, such as a shell's ``<(...)``.

    Raises:
        OSError: if it cannot be read, is another kind of file, is longer than ``limit``, or its writer is silent for
            ``WRITER_TIMEOUT_S``.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, "is a directory" if stat.S_ISDIR(mode) else "is neither a file nor a pipe", str(path))
        data = bytearray()
        while len(data) <= limit and (piece := _read_piece(fd, path, limit + 1 - len(data))):
            data += piece
    finally:
        os.close(fd)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"is longer than {limit} bytes", str(path))
    return bytes(data)


def _read_piece(fd: int, path: Path, most: int) -> bytes:
    """Return the next bytes; none at the end."""
    end = SYSTEM_CLOCK.now() + WRITER_TIMEOUT_S
    while True:
        try:
            return os.read(fd, min(most, 1 << 20))
        except BlockingIOError:
            rest = end - SYSTEM_CLOCK.now()
            if rest <= 0 or not select.select([fd], [], [], rest)[0]:
                raise TimeoutError(
                    errno.ETIMEDOUT, f"its writer is silent for {WRITER_TIMEOUT_S:g} s", str(path)
                ) from None
