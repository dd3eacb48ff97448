"""A cgroup of its own for a rank that runs: less memory, less processor time, or none at all.

A rank has one such group, whatever several faults ask of it; it goes when the last of them is over.
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
"""Microseconds in which a rank may have its share of processor time; the kernel's own default."""


def limit_memory(aim: Aim, pid: int) -> Step:
    """Let a rank and its children have only so much memory, and read that back from the kernel."""
    size, page = int(aim.number("size")), os.sysconf("SC_PAGESIZE")
    placed = _placed(aim, pid, "memory", "memory")
    if not isinstance(placed, tuple):
        return placed
    hierarchy, group = placed
    knob = group / hierarchy.knob
    try:
        knob.write_text(str(size))
    except OSError as error:  # version 1 wants room for what is there already
        return Errored(f"{knob} does not take {size}: {error.strerror}; what the rank has needs more")
    for swap, most in (("memory.swap.max", 0), (cgroups.SWAP, size)):
        with suppress(OSError):  # without swap there is no such file
            (group / swap).write_text(str(most))
    told, where = knob.read_text().strip(), hierarchy.standing(pid)
    if where != group or not told.isdigit() or abs(int(told) - size) >= page:
        return Errored(f"pid {pid} stands in {where}, and {knob} says {told}")
    now = (group / ("memory.current" if hierarchy.version == 2 else "memory.usage_in_bytes")).read_text().strip()
    return Injected(f"pid {pid} stands in {where}, whose {knob.name} is {told}; it uses {now} now")


def limit_cpu(aim: Aim, pid: int) -> Step:
    """Let a rank and its children have only so much processor time, and read that back from the kernel."""
    quota = round(aim.number("cpus") * PERIOD)
    placed = _placed(aim, pid, "cpu", "processor time")
    if not isinstance(placed, tuple):
        return placed
    hierarchy, group = placed
    knob = group / hierarchy.knob
    if hierarchy.version == 1:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
    knob.write_text(f"{quota} {PERIOD}" if hierarchy.version == 2 else str(quota))
    told, where = knob.read_text().strip(), hierarchy.standing(pid)
    if where != group or told.split()[0] != str(quota):
        return Errored(f"pid {pid} stands in {where}, and {knob} says {told}")
    return Injected(f"pid {pid} stands in {where}, whose {knob.name} is {told}: of every {PERIOD} microseconds {quota}")


def freeze(aim: Aim, pid: int) -> Step:
    """Freeze a rank and its children until it is healed: no signal does anything to them unless it ends them."""
    placed = _placed(aim, pid, "freezer", "time")
    if not isinstance(placed, tuple):
        return placed
    hierarchy, group = placed
    (group / hierarchy.knob).write_text("1")

    def check() -> Result | None:
        if (where := hierarchy.standing(pid)) != group:
            return Errored(f"pid {pid} stands in {where}, and not in {group}")
        events = (group / "cgroup.events").read_text()
        return Injected(f"pid {pid} stands in {where}, whose cgroup.events say frozen 1") if _frozen(events) else None

    def at_exit(status: ExitStatus) -> Result:
        return NotReached(f"the rank ended with {status} before it was frozen")

    return check() or Soon(check, f"frozen 1 in {group}/cgroup.events", at_exit=at_exit)  # type: ignore[return-value]


def _frozen(events: str) -> bool:
    return "frozen 1" in events.splitlines()


def _placed(
    aim: Aim, pid: int, controller: cgroups.Controller, what: str
) -> tuple[cgroups.Hierarchy, Path] | Errored | NotReached:
    """The rank's group, with the rank in it; what gives it back its freedom is noted before that."""
    hierarchy = cgroups.hierarchy(controller)
    if hierarchy is None or (own := hierarchy.standing(pid)) is None:
        return Errored(f"where pid {pid} stands in the hierarchy of cgroups is not told by /proc/{pid}/cgroup")
    name = f"{PREFIX}{aim.rank}-{pid}"
    group = own if own.name == name else own / name
    _tidy(group.parent)
    aim.undo.append((f"{what} of rank {aim.rank} without a limit of ours", lambda: hierarchy.free(group)))
    try:
        hierarchy.enter(pid, name)
    except ProcessLookupError:
        return NotReached("the rank had ended before it could be put into a cgroup")
    except OSError as error:
        return Errored(f"pid {pid} cannot be put into {group}: {error.strerror}")
    return hierarchy, group


def _tidy(place: Path) -> None:
    """Remove the empty groups of ranks that are gone: whoever made them was killed, and could not."""
    for group in place.glob(f"{PREFIX}*"):
        if processes.look_up(int(group.name.rpartition("-")[2])) is None:
            with suppress(OSError):  # somebody else was faster, or what the rank started is still there
                group.rmdir()
