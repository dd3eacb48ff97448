"""Watch on the operations by which the processes of a command change watched files, seen before they happen.

The command starts under a seccomp filter that all its descendants inherit. Each system call that creates, writes,
truncates, synchronizes, renames, links or removes a watched file waits in the kernel until a callback decides on it.
Writes to stdout and stderr can be watched as well, so that lines of output are in one order with the operations.

Writes through a shared mapping or io_uring are not seen. A close is none of these operations: it changes no file.
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
from dataclasses import dataclass
from errno import EIO
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from derail.faults.mechanisms.exec_shims import seccomp as seccomp_shim
from derail.faults.mechanisms.syscall_filter import Held, Watch
from derail.faults.mechanisms.syscall_rules import read_string
from derail.model.clock import SYSTEM_CLOCK
from derail.platform import seccomp
from derail.platform.proc_status import status_number
from derail.platform.syscalls import this_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from derail.platform.handshake import Endpoint
    from derail.platform.seccomp import Call, Listener
    from derail.platform.syscalls import Machine

Kind: TypeAlias = Literal["create", "write", "truncate", "sync", "rename", "link", "unlink", "mkdir", "line"]
LET: Final = "let"
DROP: Final = "drop"
FREEZE: Final = "freeze"
"""Answers: the call proceeds; it is not answered, because its caller has been killed; or nothing is answered any more,
so that no process can change another file."""
LONGEST_LINE = 4096
"""Bytes of one write to stdout or stderr that are read."""
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_OPENS = {"open": (0, 1), "openat": (1, 2), "creat": (0, None), "openat2": (1, None)}  # arguments: path, flags
_WRITES = {
    "write": 0, "pwrite64": 0, "writev": 0, "pwritev": 0, "pwritev2": 0, "sendfile": 0, "copy_file_range": 2,
    "splice": 2,
}  # argument: descriptor  # fmt: skip
_TRUNCATES = {"ftruncate": 0, "fallocate": 0}
_SYNCS = {"fsync": 0, "fdatasync": 0, "sync_file_range": 0, "syncfs": 0}
_PATHS: dict[str, tuple[Kind, tuple[tuple[int | None, int], ...]]] = {  # arguments: directory, path
    "truncate": ("truncate", ((None, 0),)),
    "rename": ("rename", ((None, 0), (None, 1))),
    "renameat": ("rename", ((0, 1), (2, 3))),
    "renameat2": ("rename", ((0, 1), (2, 3))),
    "link": ("link", ((None, 0), (None, 1))),
    "linkat": ("link", ((0, 1), (2, 3))),
    "symlink": ("link", ((None, 1),)),
    "symlinkat": ("link", ((1, 2),)),
    "unlink": ("unlink", ((None, 0),)),
    "unlinkat": ("unlink", ((0, 1),)),
    "rmdir": ("unlink", ((None, 0),)),
    "mkdir": ("mkdir", ((None, 0),)),
    "mkdirat": ("mkdir", ((0, 1),)),
}
_CALLS = (*_OPENS, *_WRITES, *_TRUNCATES, *_SYNCS, *_PATHS, "sync")
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_IOVEC = struct.Struct("=QQ")
_AT_FDCWD = -100


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that a process is about to carry out.

    Attributes:
        kind: what it does; "line" is the write that ends one or more lines on stdout or stderr.
        call: the name of the system call.
        pid: the process.
        path: the file relative to the root of the watch; empty for a line and for sync(2).
        target: the new name of a rename or a link.
        text: the lines.
    """

    kind: Kind
    call: str
    pid: int
    path: str = ""
    target: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """Answer: the call fails with an error number, and is not carried out."""

    errno: int = EIO


@dataclass(frozen=True, slots=True)
class Hold:
    """Answer: the call waits for some seconds, and then proceeds."""

    seconds: float


Answer: TypeAlias = Literal["let", "drop", "freeze"] | Fail | Hold


class PersistenceWatch(Watch):
    """Watch on the file operations of a command and of all its descendants.

    Args:
        pid: the first process of the command: the shim, which becomes the command.
        root: directory that paths are relative to.
        is_watched: whether a path relative to the root is watched.
        decide: called in the watch's thread with each operation, before it happens.
        lines: whether writes to stdout and stderr are operations, too.
    """

    def __init__(
        self,
        pid: int,
        root: Path,
        is_watched: Callable[[str], bool],
        decide: Callable[[Operation], Answer],
        *,
        lines: bool = False,
    ) -> None:
        super().__init__(pid)
        machine = this_machine()
        assert machine is not None, "the caller has asked why_not()"
        self._machine = machine
        self._root = os.path.realpath(root)
        self._is_watched = is_watched
        self._operate = decide
        self._lines = lines
        self._parts: dict[tuple[int, int], bytes] = {}
        self._frozen = False

    def decide(self, listener: Listener, call: Call) -> None:
        """Answer a call according to the callback."""
        if self._frozen:
            return  # its caller will be killed
        if self._comes_again(call):
            return
        try:
            operation = self._operation(call)
        except (OSError, OverflowError, ValueError, struct.error):
            operation = None  # the caller has ended, or its memory cannot be read: the call itself fails then
        answer: Answer = LET if operation is None else self._operate(operation)
        if answer == FREEZE:
            self._frozen = True
        elif isinstance(answer, Fail):
            listener.fail(call, answer.errno)
        elif isinstance(answer, Hold):
            now = SYSTEM_CLOCK.now()
            self._held[call.tid] = Held(call, now, now + answer.seconds, 0, [])
        elif answer == LET:
            listener.let(call)

    def _operation(self, call: Call) -> Operation | None:
        name = _name(self._machine, call.number)
        if name in _WRITES:
            return self._write(call, name)
        if name in _OPENS:
            return self._opening(call, name)
        if name in _PATHS:
            kind, places = _PATHS[name]
            paths = [self._inside(self._path(call, where, argument)) for where, argument in places]
            if not any(path is not None and self._is_watched(path) for path in paths):
                return None
            return self._made(kind, call, name, *(path or "" for path in paths))
        if name == "sync":
            return self._made("sync", call, name, "")
        path = self._of_descriptor(call, _TRUNCATES[name] if name in _TRUNCATES else _SYNCS[name])
        if path is None or (name != "syncfs" and not self._is_watched(path)):
            return None
        if name == "syncfs":
            return self._made("sync", call, name, "")
        return self._made("truncate" if name in _TRUNCATES else "sync", call, name, path)

    def _write(self, call: Call, name: str) -> Operation | None:
        argument = _WRITES[name]
        path = self._of_descriptor(call, argument)
        if path is not None and self._is_watched(path):
            return self._made("write", call, name, path)
        fd = call.args[0] & 0xFFFFFFFF
        if not self._lines or name not in ("write", "writev") or fd not in (1, 2):
            return None
        pid = _process(call)
        text = self._parts.pop((pid, fd), b"") + self._text(call, name)
        whole, newline, rest = text.rpartition(b"\n")
        if rest:
            self._parts[pid, fd] = rest[-LONGEST_LINE:]
        return Operation("line", name, pid, text=whole.decode(errors="replace")) if newline else None

    def _opening(self, call: Call, name: str) -> Operation | None:
        path_at, flags_at = _OPENS[name]
        flags = os.O_CREAT | os.O_TRUNC if flags_at is None else call.args[flags_at]
        if name == "openat2":  # struct open_how begins with the flags
            flags = int.from_bytes(_read(call.tid, call.args[2], 8), sys.byteorder)
        if not flags & (os.O_CREAT | os.O_TRUNC):
            return None
        full = self._path(call, 0 if path_at else None, path_at)
        path = self._inside(full)
        if path is None or not self._is_watched(path):
            return None
        if not os.path.lexists(full):
            return self._made("create", call, name, path) if flags & os.O_CREAT else None
        if flags & os.O_TRUNC and not flags & os.O_EXCL and os.path.isfile(full) and os.path.getsize(full):
            return self._made("truncate", call, name, path)
        return None

    def _made(self, kind: Kind, call: Call, name: str, path: str, target: str = "") -> Operation:
        return Operation(kind, name, _process(call), path, target)

    def _of_descriptor(self, call: Call, argument: int) -> str | None:
        """Return the path of an open file relative to the root; None if it is elsewhere, removed or no file."""
        path = os.readlink(f"/proc/{call.tid}/fd/{call.args[argument] & 0xFFFFFFFF}")
        if not path.startswith(self._root) or path.endswith(" (deleted)"):
            return None
        return self._inside(path)

    def _path(self, call: Call, directory: int | None, argument: int) -> str:
        """Return the absolute path of an argument, with all links but the last part resolved."""
        path = read_string(call.tid, call.args[argument])
        if not path.startswith("/"):
            fd = _AT_FDCWD if directory is None else _signed(call.args[directory])
            base = os.readlink(f"/proc/{call.tid}/cwd" if fd == _AT_FDCWD else f"/proc/{call.tid}/fd/{fd}")
            path = os.path.join(base, path)
        front, last = os.path.split(os.path.normpath(path))
        return os.path.join(os.path.realpath(front), last)

    def _inside(self, path: str) -> str | None:
        """Return a path relative to the root; None if it is not below it."""
        if path.startswith(self._root + "/"):
            return path[len(self._root) + 1 :]
        return None

    def _text(self, call: Call, name: str) -> bytes:
        if name == "write":
            return _read(call.tid, call.args[1], min(call.args[2], LONGEST_LINE))
        data = b""
        for index in range(min(call.args[2], 16)):
            base, size = _IOVEC.unpack(_read(call.tid, call.args[1] + index * _IOVEC.size, _IOVEC.size))
            data += _read(call.tid, base, min(size, LONGEST_LINE - len(data)))
        return data


def under_watch(argv: Sequence[str], endpoint: Endpoint) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts ``argv`` under the filter, and its additional variables.

    Args:
        argv: the command.
        endpoint: the directory of the watch's socket, and the secret; see ``PrivateDirectory``.
    """
    machine = this_machine()
    assert machine is not None, "the caller has asked why_not()"
    numbers = {name: number for name in _CALLS if (number := machine.number(name)) is not None}
    bits = {numbers[name]: (flags, _CHANGES) for name, (_, flags) in _OPENS.items() if flags and name in numbers}
    what = {
        "filter": seccomp.filter_program(numbers.values(), machine, bits=bits).hex(),
        "seccomp": machine.seccomp,
        "flags": _NEW_LISTENER | _WAIT_KILLABLE,
    }
    shim = [sys.executable, "-X", "utf8", "-I", "-S", str(Path(seccomp_shim.__file__)), json.dumps(what)]
    return [*shim, *argv], {seccomp_shim.VARIABLE: str(endpoint)}


def why_not() -> str:
    """Return why operations cannot be watched on this machine; empty if they can."""
    return seccomp.why_not() or ("" if sys.executable else "sys.executable is empty: derail cannot start Python")


@cache
def matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a function that returns whether a relative path matches one of these patterns, or is a folder of one.

    ``*`` and ``?`` match within a name, ``**`` matches any number of names. The folder before the first of them counts.
    """
    parts = [f"(?:{_expression(pattern)})" for pattern in patterns]
    parts += [re.escape(root) for pattern in patterns if (root := fixed_part(pattern))]
    compiled = re.compile("|".join(parts))
    return lambda path: compiled.fullmatch(path) is not None


def fixed_part(pattern: str) -> str:
    """Return the folders of a pattern before its first wildcard; the whole pattern if it has none."""
    names = pattern.split("/")
    fixed = [name for index, name in enumerate(names) if not any(set(n) & set("*?") for n in names[: index + 1])]
    return "/".join(fixed)


def _expression(pattern: str) -> str:
    text = ""
    for part in re.split(r"(\*\*/?|\*|\?)", pattern):
        text += {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return text


def _process(call: Call) -> int:
    return status_number(call.tid, "Tgid") or call.tid


def _read(tid: int, address: int, size: int) -> bytes:
    fd = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, address)
    finally:
        os.close(fd)


def _signed(value: int) -> int:
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


@cache
def _name(machine: Machine, number: int) -> str:
    return machine.name(number)
