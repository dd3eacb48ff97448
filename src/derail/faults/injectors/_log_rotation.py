"""Changes of log files while ranks write to them: deletion, truncation, replacement by another file or a FIFO."""

from __future__ import annotations

import os
import shutil
import stat
from functools import partial
from typing import TYPE_CHECKING

from derail.faults.injectors._log_probes import descriptor, identity_of, log_path, number_of
from derail.faults.injectors.resources import living
from derail.faults.model.results import Errored, Injected, NotReached, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from derail.faults.catalogue.injector_api import Aim, Step

NO_FILES = ("pipe:", "socket:", "/dev/pts/", "/dev/tty", "/dev/null")
"""Prefixes in /proc of streams that a launcher reads itself or discards."""


def move_log(aim: Aim) -> Step:
    """Change the log file of a rank like a disk cleaner or logrotate, and verify the rank's open descriptor."""
    path, number, pid = log_path(aim), number_of(aim), living(aim)
    if path is None:
        return NotReached(f"rank {aim.rank} has no log file for its {aim.text('stream')}")
    at_exit = "at its exit" in str(aim.fault.when)
    if pid is None and not at_exit:
        return NotReached("the rank had ended before its log file could be touched")
    try:
        before = os.lstat(path)
    except FileNotFoundError:
        return Errored(f"{path} does not exist")
    if not stat.S_ISREG(before.st_mode):
        return Errored(f"{path} is not a regular file")
    here = (before.st_dev, before.st_ino)
    if pid is not None and not at_exit and identity_of(pid, number) != here:
        other = descriptor(pid, number)
        if other is not None and other.startswith(NO_FILES):
            return Unavailable(f"rank {aim.rank} writes its {aim.text('stream')} to {other}, not to a file")
        return Errored(f"expected rank {aim.rank} to write to {path}, got {other}")
    seen = _MOVES[aim.fault.name](aim, path, before)
    if isinstance(seen, Errored):
        return seen
    writes = "" if pid is None or at_exit else f"; /proc/{pid}/fd/{number} is {descriptor(pid, number)}"
    return Injected(f"{seen}{writes}")


def _delete(_: Aim, path: Path, before: os.stat_result) -> str | Errored:
    path.unlink()
    gone = not os.path.lexists(path)
    return f"{path} ({before.st_size} bytes) is gone" if gone else Errored(f"{path} still exists")


def _truncate(aim: Aim, path: Path, before: os.stat_result) -> str | Errored:
    if before.st_size == 0:
        return Errored(f"{path} was empty: no change possible")
    copy = path.with_name(path.name + ".1")
    if aim.flag("copy"):
        shutil.copyfile(path, copy)
    os.truncate(path, 0)
    after = os.lstat(path)
    if (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino) or after.st_size >= before.st_size:
        return Errored(f"{path} has {after.st_size} bytes after truncation, had {before.st_size}")
    kept = f", {copy} has {copy.stat().st_size}" if aim.flag("copy") else ""
    return f"{path} had {before.st_size} bytes, has {after.st_size}{kept}; inode {after.st_ino} as before"


def _replace(_: Aim, path: Path, before: os.stat_result) -> str | Errored:
    kept = path.with_name(path.name + ".1")
    path.rename(kept)
    path.touch()
    after = os.lstat(path)
    if after.st_ino == before.st_ino or os.lstat(kept).st_ino != before.st_ino:
        return Errored(f"{path} is still inode {before.st_ino}")
    return f"{path} is inode {after.st_ino}, was {before.st_ino}, which is {kept.name} now"


def _make_fifo(aim: Aim, path: Path, before: os.stat_result) -> str | Errored:
    kept = path.with_name(path.name + ".1")
    aim.undo.append((f"{path} is a file again", partial(_put_back, path, kept)))
    path.rename(kept)
    os.mkfifo(path)
    if not stat.S_ISFIFO(os.lstat(path).st_mode):
        return Errored(f"{path} is not a FIFO")
    return f"{path} is a FIFO, was inode {before.st_ino}, which is {kept.name} now"


def _put_back(path: Path, kept: Path) -> None:
    """Restore the log file, so that a later open of the log does not block on the FIFO."""
    if stat.S_ISFIFO(os.lstat(path).st_mode) and kept.exists():
        kept.replace(path)


_MOVES: dict[str, Callable[[Aim, Path, os.stat_result], str | Errored]] = {
    "log_deleted": _delete,
    "log_truncated": _truncate,
    "log_replaced": _replace,
    "log_fifo": _make_fifo,
}
"""The change by fault, which returns what was verified."""
