"""Cgroups, version 1 and 2: the group of a process, and a new group for it beneath.

A controller is in one hierarchy: in one of version 1 that is mounted for it, or else in that of version 2. Freezing is
done with version 2 only: a process frozen by version 1 does not even end by SIGKILL.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Controller: TypeAlias = Literal["memory", "cpu", "freezer"]

PROC = Path("/proc")
KNOBS: dict[tuple[int, Controller], tuple[str, str]] = {
    (1, "memory"): ("memory.limit_in_bytes", "-1"),
    (1, "cpu"): ("cpu.cfs_quota_us", "-1"),
    (2, "memory"): ("memory.max", "max"),
    (2, "cpu"): ("cpu.max", "max"),
    (2, "freezer"): ("cgroup.freeze", "0"),
}
"""By version and controller: the file, and its content where no process is limited."""
SWAP = "memory.memsw.limit_in_bytes"
"""In version 1: memory and swap together, never less than memory alone."""

UNLIMITED = 1 << 60
"""Smallest number that counts as no limit: version 1 reports a whole number of pages near 2**63."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy that has a controller.

    Attributes:
        version: 1 or 2.
        controller: the requested controller.
        mount: its mount point.
        root: the part of it that is mounted there.
    """

    version: int
    controller: Controller
    mount: Path
    root: str = "/"

    @property
    def knob(self) -> str:
        """The file that sets the controller."""
        return KNOBS[self.version, self.controller][0]

    def standing(self, pid: int) -> Path | None:
        """Return the group of a process, as a directory; None if that cannot be read."""
        try:
            lines = (PROC / str(pid) / "cgroup").read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            number, controllers, path = line.split(":", 2)
            if (self.controller in controllers.split(",")) if self.version == 1 else number == "0":
                inside = path.removeprefix(self.root) if self.root != "/" else path
                return self.mount / inside.lstrip("/")
        return None

    def enter(self, pid: int, name: str) -> Path | None:
        """Move a process into a group of this name beneath its own, unless it is in that already; return the group.

        None if the process's group cannot be read.

        Raises:
            OSError: if the group cannot be made, or the process cannot be moved into it.
        """
        own = self.standing(pid)
        if own is None:
            return None
        group = own if own.name == name else own / name
        group.mkdir(exist_ok=True)
        (group / "cgroup.procs").write_text(str(pid))
        return group

    def free(self, group: Path) -> None:
        """Remove the limit of a group; if it has no other limit, move its processes back, and remove it.

        Raises:
            OSError: if that is not allowed.
        """
        if not group.is_dir():
            return
        if (swap := group / SWAP).exists():
            swap.write_text("-1")
        (group / self.knob).write_text(KNOBS[self.version, self.controller][1])
        if not all(_is_at_rest(group, *knob) for (version, _), knob in KNOBS.items() if version == self.version):
            return
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()


def _is_at_rest(group: Path, knob: str, rest: str) -> bool:
    try:
        value = (group / knob).read_text().split()[0]
    except FileNotFoundError:
        return True
    return value == rest or (value.isdigit() and rest == "-1" and int(value) >= UNLIMITED)


def hierarchy(controller: Controller) -> Hierarchy | None:
    """Return the hierarchy that has a controller, or would have it; None if none is mounted."""
    try:
        lines = (PROC / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    mounted: dict[int, Hierarchy] = {}
    for line in lines:
        place, _, kind = line.partition(" - ")
        words, (system, _, options) = place.split(), kind.split()[:3]
        if system == "cgroup2":
            mounted.setdefault(2, Hierarchy(2, controller, Path(words[4]), words[3]))
        elif system == "cgroup" and controller != "freezer" and controller in options.split(","):
            mounted.setdefault(1, Hierarchy(1, controller, Path(words[4]), words[3]))
    return mounted.get(1) or mounted.get(2)
