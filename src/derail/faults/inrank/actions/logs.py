"""Faults in a rank's own output: bytes that are no lines, too many lines, and streams that refuse writes.

They use descriptors 1 and 2 directly, below the program's own stream objects.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import stat
import sys

from .. import stream_copies
from ..stream_copies import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..api import Effect, Runtime
    from ..rank_plan import Task

FULL = "/dev/full"
_CHUNK = 1 << 16


def payload(name: str, params: Mapping[str, object]) -> Iterator[bytes]:
    """Yield the bytes that a fault writes, one ``write`` each; the driver uses it to find them in the log file."""
    text = str(params.get("text", "")).encode("utf-8", "surrogateescape")
    if name in ("partial_line", "no_newline_before_kill"):
        yield text
    elif name == "progress_bar":
        steps = int(str(params["steps"]))
        for step in range(1, steps + 1):
            done = 20 * step // steps
            yield b"\r%s [%s%s] %d/%d" % (text, b"#" * done, b"." * (20 - done), step, steps)
    elif name == "ansi":
        yield b"\x1b[1;31m" + text + b"\x1b[0m\x1b[2J\x1b[H\x1b[?1049h\x1b[?25l\x1b]0;" + text + b"\x07\x1b[8m\n"
    elif name == "nul_bytes":
        yield text + b"\0" * int(str(params["count"])) + text + b"\n"
    elif name == "invalid_utf8":
        # A lone continuation byte, an overlong form, a surrogate, beyond Unicode, and a truncated character.
        yield text + b" \x80 \xc0\xaf \xed\xa0\x80 \xf5\x80\x80\x80 \xff\xfe \xe2\x82\n"
    elif name == "long_line":
        left = int(str(params["size"]))
        while left:
            part = min(left, _CHUNK)
            yield b"x" * part
            left -= part
        yield b"\n"
    elif name == "log_flood":
        lines, width = int(str(params["lines"])), int(str(params["width"]))
        several = max(1, _CHUNK // (width + 1))
        for first in range(1, lines + 1, several):
            last = min(lines, first + several - 1)
            yield b"".join(_flood_line(number, width) for number in range(first, last + 1))


def _flood_line(number: int, width: int) -> bytes:
    return (b"flood %09d " % number).ljust(width, b"~")[:width] + b"\n"


def write(runtime: Runtime, task: Task) -> Effect:
    """Write bytes to a stream, then continue or exit."""
    fd = _stream(runtime, task)
    then = task.text("then")

    def act() -> None:
        wrote, number = 0, 0
        try:
            for part in payload(task.name, task.params):
                wrote += _write_all(fd, part)
        except OSError as error:
            number = error.errno or errno.EIO
        _say(runtime, "wrote", task, bytes=wrote, errno=errno.errorcode.get(number, ""))
        if then == "exit":
            os._exit(1)

    return act


def die_in_the_midst(runtime: Runtime, task: Task) -> Effect:
    """Write text without a final newline, to the stream or only to a buffer of this process, then SIGKILL itself."""
    fd = _stream(runtime, task)
    buffered = task.params.get("buffered") is True
    buffer = io.BufferedWriter(io.FileIO(fd, "w", closefd=False), 1 << 20)

    def act() -> None:
        for part in payload(task.name, task.params):
            if buffered:
                buffer.write(part)
            else:
                _write_all(fd, part)
        os.kill(os.getpid(), signal.SIGKILL)

    return act


def close(runtime: Runtime, task: Task) -> Effect:
    """Close a stream: the next file that the program opens gets its number."""
    fd = _stream(runtime, task)
    return _change(runtime, task, fd, lambda: os.close(fd), b"")


def read_only(runtime: Runtime, task: Task) -> Effect:
    """Reopen the stream's file for reading only."""
    fd = _stream(runtime, task)
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    return _change(runtime, task, fd, lambda: _take_the_place(other, fd), b"")


def fill(runtime: Runtime, task: Task) -> Effect:
    """Replace a stream by a device that is full."""
    fd = _stream(runtime, task)
    other = os.open(FULL, os.O_WRONLY | os.O_CLOEXEC)
    return _change(runtime, task, fd, lambda: _take_the_place(other, fd), b"\n")


def hold(runtime: Runtime, task: Task) -> Effect:
    """Start a process that holds the streams and outlives this one."""
    _stream(runtime, task)
    if not sys.executable:
        raise RuntimeError("sys.executable is empty: it cannot start Python")
    code = f"import time; time.sleep({float(task.text('seconds'))!r})"

    def act() -> None:
        argv = [sys.executable, "-I", "-S", "-c", code]
        session = {"setsid": True} if task.params.get("own_session") is True else {}
        try:
            pid = os.posix_spawn(sys.executable, argv, os.environ, **session)  # type: ignore[arg-type]
        except OSError as error:
            _say(runtime, "failed", task, what=f"cannot start the process that holds the stream: {error}")
        else:
            _say(runtime, "holder", task, pid=pid)

    return act


def _stream(runtime: Runtime, task: Task) -> int:
    """Record what the descriptor of the stream refers to, and return it; OSError if it is closed."""
    fd = NUMBERS[task.text("stream")]
    about = os.fstat(fd)
    copy = os.fstat(stream_copies.copies[fd]) if fd in stream_copies.copies else None
    runtime.write(
        "stream", fault=task.id, fd=fd, dev=about.st_dev, ino=about.st_ino, size=about.st_size,
        file=stat.S_ISREG(about.st_mode), copy=None if copy is None else [copy.st_dev, copy.st_ino, copy.st_size],
    )  # fmt: skip
    return fd


def _change(runtime: Runtime, task: Task, fd: int, change: Callable[[], None], trial: bytes) -> Effect:
    """Return an effect that changes a stream and records the error of a write to it."""

    def act() -> None:
        change()
        try:
            os.write(fd, trial)
        except OSError as error:
            said = errno.errorcode.get(error.errno or 0, str(error.errno))
        else:
            said = ""
        _say(runtime, "changed", task, errno=said)

    return act


def _take_the_place(other: int, fd: int) -> None:
    os.dup2(other, fd, inheritable=True)
    os.close(other)


def _write_all(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        stream_copies.add(fd, view[:written])
        view = view[written:]
    return len(data)


def _say(runtime: Runtime, event: str, task: Task, **fields: object) -> None:
    try:
        runtime.write(event, fault=task.id, **fields)
    except OSError:
        pass  # the journal may be gone by now; the program must not see the error


ACTIONS = {
    "partial_line": write,
    "no_newline_before_kill": die_in_the_midst,
    "progress_bar": write,
    "ansi": write,
    "nul_bytes": write,
    "invalid_utf8": write,
    "long_line": write,
    "log_flood": write,
    "closed_stream": close,
    "log_read_only": read_only,
    "log_disk_full": fill,
    "pipe_holder": hold,
}
