"""Cgroups, of version 1 and 2: where a process stands, and a group of its own for it, beneath.

A controller is in one hierarchy: in one of version 1 that is mounted for it, or else in that of version 2. Freezing is
done with version 2 only: what version 1 has frozen does not even end by SIGKILL.
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
"""By version and controller: the file, and what stands in it where nobody is held."""
SWAP = "memory.memsw.limit_in_bytes"
"""In version 1: memory and swap together, never less than memory alone."""

UNLIMITED = 1 << 60
"""What version 1 says is a whole number of pages near 2**63."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy that has a controller.

    Attributes:
        version: 1 or 2.
        controller: which is asked for.
        mount: where it is mounted.
        root: what of it is mounted there.
    """

    version: int
    controller: Controller
    mount: Path
    root: str = "/"

    @property
    def knob(self) -> str:
        """The file that the controller is told by."""
        return KNOBS[self.version, self.controller][0]

    def standing(self, pid: int) -> Path | None:
        """The group that a process is in, as a directory; None if that cannot be seen."""
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
        """Put a process into a group of this name, beneath the one in which it stands; if it is in that already, it
        stays. None if it cannot be seen where it stands.

        Raises:
            OSError: if the group cannot be made, or the process cannot be put into it.
        """
        own = self.standing(pid)
        if own is None:
            return None
        group = own if own.name == name else own / name
        group.mkdir(exist_ok=True)
        (group / "cgroup.procs").write_text(str(pid))
        return group

    def free(self, group: Path) -> None:
        """Hold nobody in a group any more; and if nothing else is asked of it, send everybody back, and remove it.

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
    """The hierarchy that has a controller, or would have it; None if none is mounted."""
    try:
        lines = (PROC / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    found: dict[int, Hierarchy] = {}
    for line in lines:
        place, _, kind = line.partition(" - ")
        words, (system, _, options) = place.split(), kind.split()[:3]
        if system == "cgroup2":
            found.setdefault(2, Hierarchy(2, controller, Path(words[4]), words[3]))
        elif system == "cgroup" and controller != "freezer" and controller in options.split(","):
            found.setdefault(1, Hierarchy(1, controller, Path(words[4]), words[3]))
    return found.get(1) or found.get(2)
