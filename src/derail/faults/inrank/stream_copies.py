"""Copies of what a rank writes to streams that are pipes or terminals of its launcher.

Derail reads the copy; the launcher gets every byte first, through its own pipe, as if no other process read it. What
Python writes through ``sys.stdout`` and ``sys.stderr`` is copied, and what a fault writes; output of C code and of
other processes reaches the launcher alone.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

NUMBERS = {"stdout": 1, "stderr": 2}
copies: dict[int, int] = {}
"""Descriptor of the copy, by that of the stream."""
HIGH = 512
"""Lowest number of a descriptor that derail keeps open."""


def add(fd: int, data: bytes | memoryview) -> None:
    """Add data that a stream has accepted to its copy, if it has one."""
    if fd in copies:
        try:
            os.write(copies[fd], data)
        except OSError:
            del copies[fd]  # the disk is full, or the program has closed the descriptor: the rank continues


def begin(name: str, path: str) -> None:
    """Copy what this Python writes to ``sys.stdout`` or ``sys.stderr`` to a file from now on.

    Raises:
        OSError: if the file cannot be opened.
    """
    import fcntl

    fd = NUMBERS[name]
    stream = getattr(sys, name)
    if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper) or stream.fileno() != fd:
        return  # the program, or its runner, has replaced the stream
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    copies[fd] = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(opened)
    copied = _copied(stream, fd, name)
    setattr(sys, name, copied)
    setattr(sys, f"__{name}__", copied)


class _Copied(io.FileIO):
    """Descriptor of a stream; data that it accepts is added to the copy."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write as any file does; return None if it would block."""
        written = super().write(data)
        if written:
            add(self.fileno(), memoryview(data).cast("B")[:written])
        return written


def _copied(stream: io.TextIOWrapper, fd: int, name: str) -> TextIO:
    """Return a new stream object on a copied descriptor, with the buffering, encoding and name of the old one."""
    raw = _Copied(fd, "w", closefd=False)
    raw.name = f"<{name}>"
    unbuffered = isinstance(stream.buffer, io.RawIOBase)  # python -u
    made = io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=unbuffered,
    )
    made.mode = "w"  # type: ignore[misc]
    return made
