"""Files and directories of this user's own: made so that no other user reads them, and known from those of others."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_OPEN = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file that only this user reads, and make it if it is not there; a descriptor.

    Raises:
        PermissionError: if it belongs to another user, who could have put anything into it.
        OSError: if it cannot be opened, or is a link.
    """
    fd = os.open(path, flags | _OPEN, 0o600)
    if (owner := os.fstat(fd).st_uid) != os.geteuid():
        os.close(fd)
        raise PermissionError(errno.EPERM, f"it belongs to user {owner}", os.fspath(path))
    return fd


def make_private(directory: Path) -> Path:
    """Make a directory that only this user enters, and so all above it that are missing. One that is there stays."""
    missing = [path for path in (directory, *directory.parents) if not path.is_dir()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    return directory


def is_of_another_user(directory: str | os.PathLike[str]) -> bool:
    """Whether another user owns what lies there, or may put something into it, so that nothing is removed from it."""
    try:
        about = os.stat(directory)
    except OSError:
        return False
    return about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH


def why_not_own(path: str | os.PathLike[str], *, below: Path | None = None) -> str:
    """Why nothing must be written at a path that another process has named; empty if it may be.

    Only this user and root may be able to put something else there: the file is this user's own, or is not there, and
    no directory above it belongs to a third user, or can be written by everybody. Members of a group that may write to
    a directory of this user are trusted.

    Args:
        path: which was named.
        below: a directory that this user has named: who owns what it lies in is not asked. In a container the folder
            that is mounted often belongs to another user.
    """
    path = os.path.abspath(path)
    try:
        about = os.lstat(path)
    except FileNotFoundError:
        about = None
    except (OSError, ValueError) as error:
        return f"{path}: {error}"
    if about is not None and about.st_uid != os.geteuid():
        return f"{path}: belongs to user {about.st_uid}"
    if about is not None and (
        stat.S_ISLNK(about.st_mode) or stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode)
    ):
        return f"{path}: is a link or a device"
    parents = {*Path(path).parents, *Path(os.path.realpath(path)).parents}
    if below is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(below)):
        parents -= {*Path(os.path.abspath(below)).parents, *Path(os.path.realpath(below)).parents}
    for directory in sorted(parents):
        try:
            above = os.lstat(directory)
        except FileNotFoundError:
            continue  # the process that makes it owns it
        except OSError as error:
            return f"{directory}: {error.strerror}"
        if above.st_uid not in (0, os.geteuid()):
            return f"{directory}: belongs to user {above.st_uid}"
        if stat.S_ISDIR(above.st_mode) and above.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            return f"{directory}: everybody may write there"
    return ""
