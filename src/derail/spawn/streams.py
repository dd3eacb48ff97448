"""The streams of a function rank: opened before its process is made, and installed in a forked process."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from derail.model.spec import Streams

_PLAIN_LOCALES = frozenset({"C", "POSIX", "C.UTF-8", "C.utf8", "UTF-8"})

_abandoned: list[object] = []
"""Streams of the parent, kept referenced: collecting one would flush its buffer, or close a reused descriptor."""


@contextmanager
def opened(streams: Streams) -> Iterator[tuple[int, int]]:
    """Yield descriptors for stdout and stderr: files to append to, or this process' own streams."""
    ours: list[int] = []
    try:
        yield _open(streams.stdout, 1, ours), _open(streams.stderr, 2, ours)
    finally:
        for fd in ours:
            os.close(fd)


def flush() -> None:
    """Flush Python's buffers, so that a forked child has no copy to write again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass  # a closed or full console of the host is no reason not to start


def take(stdout: int, stderr: int) -> None:
    """Install the streams on descriptors 0 to 2, stdin empty, with new Python objects; called in a forked child.

    The parent's objects may be anything, even without a descriptor. The environment is already the rank's.
    """
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    # Copies first, above 2: each may have a number that another one is to get.
    copies = [_above_two(fd) for fd in (null, stdout, stderr)]
    for fd in {null, stdout, stderr}:
        if fd > 2:
            os.close(fd)
    for number, fd in enumerate(copies):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    _abandoned.extend((sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__))
    sys.stdin = sys.__stdin__ = _open_text(0)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _open_text(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _open_text(2)  # type: ignore[misc]


def _above_two(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _open_text(fd: int) -> Any:
    """Return a standard stream as a fresh interpreter would make it."""
    import io

    raw: Any = io.FileIO(fd, "w" if fd else "r", closefd=False)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    buffer = raw if unbuffered and fd else io.BufferedWriter(raw) if fd else io.BufferedReader(raw)
    encoding, errors = _encoding()
    stream: Any = io.TextIOWrapper(
        buffer,
        encoding=encoding,
        errors="backslashreplace" if fd == 2 else errors,
        newline="\n",
        line_buffering=not unbuffered and (fd == 2 or raw.isatty()),
        write_through=unbuffered,
    )
    stream.mode = "w" if fd else "r"
    return stream


def _encoding() -> tuple[str, str]:
    """Return the interpreter's encoding for stdin and stdout, see ``PYTHONIOENCODING`` and PEP 538 and 540."""
    import codecs
    import locale

    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    usual = "utf-8" if sys.flags.utf8_mode else locale.getencoding()
    lenient = bool(sys.flags.utf8_mode) or locale.setlocale(locale.LC_CTYPE) in _PLAIN_LOCALES
    return codecs.lookup(encoding or usual).name, errors or ("surrogateescape" if lenient else "strict")


def _open(path: Path | None, inherited: int, ours: list[int]) -> int:
    if path is None:
        try:
            os.fstat(inherited)
        except OSError:
            # Closed; the first file that the rank opens must not take this number.
            fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        else:
            return inherited
    else:
        # Without O_NONBLOCK, a FIFO without a reader would block us here for ever.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        ours.append(fd)
        os.set_blocking(fd, True)
        return fd
    ours.append(fd)
    return fd
