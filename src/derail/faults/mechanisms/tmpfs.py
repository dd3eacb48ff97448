"""Small file system at a directory, for one rank alone: mounted before its program starts, verified via its root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from derail.faults.catalogue.injector_api import Soon
from derail.faults.catalogue.params import read_text
from derail.faults.mechanisms.namespaces import enter, is_elsewhere
from derail.faults.model.results import Errored, Injected
from derail.platform.capabilities import PROC

if TYPE_CHECKING:
    from collections.abc import Callable

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Fault, Value
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.model.spec import RankSpec


def preparing(what: Callable[[Fault], tuple[str, Value, Value]]) -> Callable[[RankSpec, Fault], RankSpec]:
    """Return a function that adds the file system to a rank; ``what`` gives the path, size and inodes."""

    def prepare(rank: RankSpec, fault: Fault) -> RankSpec:
        path, size, inodes = what(fault)
        return enter(rank, fault, {"namespaces": ["mount"], "tmpfs": {"path": path, "size": size, "inodes": inodes}})

    return prepare


def mounted(aim: Aim, directory: str, *, size: int, inodes: int, lives: Callable[[], bool]) -> Step:
    """Verify the file system in the mount namespace of the rank."""
    pid = aim.control.pid(aim.rank) or 0

    def check() -> Result | None:
        if not lives() or not is_elsewhere(pid, "mnt"):
            return None
        try:
            seen = os.statvfs(f"/proc/{pid}/root{directory}")
            mounts = (PROC / str(pid) / "mountinfo").read_text(errors="replace")
        except OSError:
            return None
        total = seen.f_blocks * seen.f_frsize
        fits = total <= max(size, seen.f_frsize) + seen.f_frsize and (not inodes or seen.f_files == inodes + 1)
        if not fits or " - tmpfs derail " not in mounts:
            return None
        left = f"{seen.f_bavail * seen.f_frsize} of {total} bytes and {seen.f_favail} inodes are free"
        return Injected(f"{directory} in the mount namespace of pid {pid} is a separate tmpfs: {left}")

    def at_exit(status: ExitStatus) -> Result:
        return Errored(f"the rank ended with {status} before its {directory} was verified; see its stderr")

    return Soon(check, f"a small tmpfs at /proc/{pid}/root{directory}", within=20.0, at_exit=at_exit)


def read_directory(value: object) -> str:
    """Return the real path of a directory on this machine.

    Raises:
        ValueError: if it is not a directory, or is ``/``.
    """
    path = read_text(value)
    if not os.path.isabs(path) or os.path.normpath(path) == "/" or "\0" in path:
        raise ValueError(f"expected the absolute path of a directory other than /, got {value!r}")
    if not os.path.isdir(path):
        raise ValueError(f"{path} is not a directory here")
    return os.path.realpath(path)
