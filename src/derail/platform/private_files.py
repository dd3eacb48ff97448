"""Files and directories that only this user can read, and checks of the ownership of others."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_OPEN = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file that only this user can read, creating it if needed; return the descriptor.

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
    """Make a directory that only this user can enter, with its missing parents. An existing one is not changed."""
    missing = [path for path in (directory, *directory.parents) if not path.is_dir()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    return directory


def is_of_another_user(directory: str | os.PathLike[str]) -> bool:
    """Return whether another user owns a directory, or may write to it, so that nothing is removed from it."""
    try:
        about = os.stat(directory)
    except OSError:
        return False
    return about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH


def why_not_own(path: str | os.PathLike[str], *, below: Path | None = None) -> str:
    """Return why nothing must be written at a path that another process has named; empty if it is safe.

    Only this user and root may be able to replace the file. It is this user's own, or does not exist, and no directory
    above it belongs to a third user, or is writable by every user. Members of a group that may write to a directory of
    this user are trusted.

    Args:
        path: the named path.
        below: a directory that this user has named: owners of the directories above it are not checked. In a container
            the mounted folder often belongs to another user.
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
            continue  # the process that creates it will own it
        except OSError as error:
            return f"{directory}: {error.strerror}"
        if above.st_uid not in (0, os.geteuid()):
            return f"{directory}: belongs to user {above.st_uid}"
        if stat.S_ISDIR(above.st_mode) and above.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            return f"{directory}: every user may write there"
    return ""
