"""A cgroup for one running rank, with less memory, less processor time, or none at all.

All faults on a rank share one such group. It is removed when the last of them is over.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from derail.faults.catalogue.injector_api import Soon
from derail.faults.model.results import Errored, Injected, NotReached
from derail.platform import cgroups, processes

if TYPE_CHECKING:
    from pathlib import Path

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus

PREFIX = "derail-rank-"
PERIOD = 100_000
"""Microseconds of the period to which the processor-time quota applies; the kernel's default."""


def limit_memory(aim: Aim, pid: int) -> Step:
    """Limit the memory of a rank and its children, and verify the limit with the kernel."""
    size, page = int(aim.number("size")), os.sysconf("SC_PAGESIZE")
    placed = _placed(aim, pid, "memory", "memory")
    if not isinstance(placed, tuple):
        return placed
    hierarchy, group = placed
    knob = group / hierarchy.knob
    try:
        knob.write_text(str(size))
    except OSError as error:  # version 1 refuses a limit below the present use
        return Errored(f"{knob} does not take {size}: {error.strerror}; the rank already uses more")
    for swap, most in (("memory.swap.max", 0), (cgroups.SWAP, size)):
        with suppress(OSError):  # without swap there is no such file
            (group / swap).write_text(str(most))
    limit, where = knob.read_text().strip(), hierarchy.standing(pid)
    if where != group or not limit.isdigit() or abs(int(limit) - size) >= page:
        return Errored(f"expected pid {pid} in {group} with {size} in {knob}, got {limit} in {where}")
    now = (group / ("memory.current" if hierarchy.version == 2 else "memory.usage_in_bytes")).read_text().strip()
    return Injected(f"pid {pid} is in {where} with {knob.name} {limit}; it uses {now} now")


def limit_cpu(aim: Aim, pid: int) -> Step:
    """Limit the processor time of a rank and its children, and verify the limit with the kernel."""
    quota = round(aim.number("cpus") * PERIOD)
    placed = _placed(aim, pid, "cpu", "processor time")
    if not isinstance(placed, tuple):
        return placed
    hierarchy, group = placed
    knob = group / hierarchy.knob
    if hierarchy.version == 1:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
    knob.write_text(f"{quota} {PERIOD}" if hierarchy.version == 2 else str(quota))
    limit, where = knob.read_text().strip(), hierarchy.standing(pid)
    if where != group or limit.split()[0] != str(quota):
        return Errored(f"expected pid {pid} in {group} with {quota} in {knob}, got {limit} in {where}")
    return Injected(f"pid {pid} is in {where} with {knob.name} {limit}: {quota} of every {PERIOD} microseconds")


def freeze(aim: Aim, pid: int) -> Step:
    """Freeze a rank and its children until the fault is healed: of all signals, only those that kill take effect."""
    placed = _placed(aim, pid, "freezer", "time")
    if not isinstance(placed, tuple):
        return placed
    hierarchy, group = placed
    (group / hierarchy.knob).write_text("1")

    def check() -> Result | None:
        if (where := hierarchy.standing(pid)) != group:
            return Errored(f"expected pid {pid} in {group}, got {where}")
        events = (group / "cgroup.events").read_text()
        return Injected(f"pid {pid} is in {where}, and its cgroup.events has frozen 1") if _frozen(events) else None

    def at_exit(status: ExitStatus) -> Result:
        return NotReached(f"the rank ended with {status} before it was frozen")

    return check() or Soon(check, f"frozen 1 in {group}/cgroup.events", at_exit=at_exit)  # type: ignore[return-value]


def _frozen(events: str) -> bool:
    return "frozen 1" in events.splitlines()


def _placed(
    aim: Aim, pid: int, controller: cgroups.Controller, what: str
) -> tuple[cgroups.Hierarchy, Path] | Errored | NotReached:
    """Return the rank's group after moving the rank into it; the undo step is registered first."""
    hierarchy = cgroups.hierarchy(controller)
    if hierarchy is None or (own := hierarchy.standing(pid)) is None:
        return Errored(f"/proc/{pid}/cgroup does not show the cgroup of pid {pid}")
    name = f"{PREFIX}{aim.rank}-{pid}"
    group = own if own.name == name else own / name
    _tidy(group.parent)
    aim.undo.append((f"{what} of rank {aim.rank} without derail's limit", lambda: hierarchy.free(group)))
    try:
        hierarchy.enter(pid, name)
    except ProcessLookupError:
        return NotReached("the rank had ended before it could be moved into a cgroup")
    except OSError as error:
        return Errored(f"pid {pid} cannot be moved into {group}: {error.strerror}")
    return hierarchy, group


def _tidy(place: Path) -> None:
    """Remove empty groups of ranks that no longer exist: their maker was killed before it could."""
    for group in place.glob(f"{PREFIX}*"):
        if processes.look_up(int(group.name.rpartition("-")[2])) is None:
            with suppress(OSError):  # another process removed it first, or a child of the rank is still in it
                group.rmdir()
