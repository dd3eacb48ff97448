"""Resource exhaustion of a rank: limits, processor time, descriptors, disk space. The program needs no change."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from derail.faults.catalogue.entry import Acts, Entry, Param, Requires, Setup
from derail.faults.catalogue.injector_api import Soon
from derail.faults.catalogue.params import (
    UNLIMITED,
    choice_param,
    count_param,
    factor_param,
    flag_param,
    read_limit,
    size_param,
)
from derail.faults.mechanisms import cgroup
from derail.faults.mechanisms.namespaces import why_not
from derail.faults.mechanisms.tmpfs import mounted, preparing, read_directory
from derail.faults.model.results import Errored, Injected, NotReached
from derail.platform.capabilities import PROC, why_no_cgroup, why_no_prlimit, why_no_proc
from derail.platform.proc_status import read_process_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.catalogue.injector_api import Aim, Step
    from derail.faults.model.plan import Value
    from derail.faults.model.results import Result

LIMITS = {
    "AS": "Max address space",
    "CORE": "Max core file size",
    "CPU": "Max cpu time",
    "DATA": "Max data size",
    "FSIZE": "Max file size",
    "MEMLOCK": "Max locked memory",
    "NOFILE": "Max open files",
    "NPROC": "Max processes",
    "STACK": "Max stack size",
}
"""Limits by name, with their titles in ``/proc/PID/limits``."""
no_proc = why_no_proc


def living(aim: Aim) -> int | None:
    """Return the pid of a rank that has not ended; None if it has."""
    pid = aim.control.pid(aim.rank)
    now = None if pid is None else read_process_state(pid)
    return None if now is None or now.ended else pid


def limit(aim: Aim) -> Step:
    """Set a limit of a running rank, and verify it in /proc."""
    pid, name, value = living(aim), aim.text("resource"), int(aim.number("value"))
    if pid is None:
        return NotReached("the rank had ended before its limit could be set")
    which = getattr(resource, f"RLIMIT_{name}")
    before = resource.prlimit(pid, which)
    soft, hard = before
    if hard != UNLIMITED and (value == UNLIMITED or value > hard):
        return Errored(f"{name} of rank {aim.rank} cannot be {_shown(value)}: its hard limit is {hard}")
    wanted = (value, value if aim.flag("hard") else hard)
    if wanted == before:
        return Errored(f"{name} of rank {aim.rank} is already {_shown(value)}: no change possible")
    aim.undo.append((f"{name} of rank {aim.rank} back to {_shown(soft)}", lambda: _set_limit(aim, which, before)))
    resource.prlimit(pid, which, wanted)
    row = _limit_row(pid, LIMITS[name])
    if row[0] != _shown(value):
        seen = " ".join(row) or "nothing"
        return Errored(f"/proc/{pid}/limits: expected {_shown(value)} for {LIMITS[name]!r}, got {seen}")
    return Injected(f"{name} of pid {pid} was {_shown(soft)}; /proc/{pid}/limits has {row[0]} (hard: {row[1]})")


def _set_limit(aim: Aim, which: int, pair: tuple[int, int]) -> None:
    pid = living(aim)
    if pid is not None:
        resource.prlimit(pid, which, pair)


def _shown(value: int) -> str:
    return "unlimited" if value == UNLIMITED else str(value)


def _limit_row(pid: int, title: str) -> tuple[str, str]:
    for line in (PROC / str(pid) / "limits").read_text().splitlines():
        if line.startswith(title):
            soft, hard, *_ = line[len(title) :].split()
            return soft, hard
    return "", ""


def oom_score(aim: Aim) -> Step:
    """Set the rank's oom_score_adj, which ranks it as a victim of the kernel, and verify it."""
    pid, wanted = living(aim), int(aim.number("adjustment"))
    if pid is None:
        return NotReached("the rank had ended before its score could be set")
    path = PROC / str(pid) / "oom_score_adj"
    before = path.read_text().strip()
    if before == str(wanted):
        return Errored(f"{path} is already {wanted}: no change possible")
    aim.undo.append((f"oom_score_adj of rank {aim.rank} back to {before}", lambda: _put_back(aim, before)))
    path.write_text(str(wanted))
    seen = path.read_text().strip()
    if seen != str(wanted):
        return Errored(f"{path}: expected {wanted}, got {seen}")
    score = (PROC / str(pid) / "oom_score").read_text().strip()
    return Injected(f"{path} was {before}, is {seen}; oom_score is {score}")


def _put_back(aim: Aim, before: str) -> None:
    pid = living(aim)
    if pid is not None:
        (PROC / str(pid) / "oom_score_adj").write_text(before)


def leaks(aim: Aim) -> Step:
    """Verify the rank's descriptor leak by counting its descriptors."""
    pid = next((int(str(record["by"])) for record in aim.records if record["event"] == "start"), 0)
    wanted = int(aim.number("count"))

    def check() -> Result | None:
        try:
            seen = len(os.listdir(PROC / str(pid) / "fd"))
            enough = wanted or resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
        except OSError:
            return None
        if seen < enough:
            return None
        why = "" if wanted else ", all that RLIMIT_NOFILE allows"
        return Injected(f"{seen} descriptors in /proc/{pid}/fd{why}; leaked in {aim.where}")

    return Soon(check, f"{wanted or 'as many as RLIMIT_NOFILE'} descriptors in /proc/{pid}/fd")


def small_disk(aim: Aim) -> Step:
    """Verify the small file system at a directory through the rank's own root."""
    size, inodes = int(aim.number("size")), int(aim.number("inodes"))
    return mounted(aim, aim.text("directory"), size=size, inodes=inodes, lives=lambda: living(aim) is not None)


def small_shm(aim: Aim) -> Step:
    """Verify the small file system at /dev/shm through the rank's own root."""
    size, inodes = int(aim.number("size")), int(aim.number("inodes"))
    return mounted(aim, SHM, size=size, inodes=inodes, lives=lambda: living(aim) is not None)


def few_inodes(aim: Aim) -> Step:
    """Verify the file system with few inodes through the rank's own root."""
    files, where = int(aim.number("files")), aim.text("directory")
    return mounted(aim, where, size=ROOMY, inodes=files, lives=lambda: living(aim) is not None)


SHM = "/dev/shm"
ROOMY = 16 << 20
"""Size in bytes of a file system with room for data but not for more files."""


def _in_group(act: Callable[[Aim, int], Step], what: str) -> Callable[[Aim], Step]:
    """Return an injector that acts on a running rank in its own cgroup."""

    def inject(aim: Aim) -> Step:
        pid = living(aim)
        if pid is None:
            return NotReached(f"the rank had ended before {what}")
        try:
            return act(aim, pid)
        except OSError as error:
            return Errored(f"{error.filename}: {error.strerror}")

    return inject


def _check_limit(values: Mapping[str, Value]) -> str:
    if values["resource"] == "CPU" and values["value"] == 0:
        return "value: the kernel takes a CPU limit of 0 as 1 second. Use 1"
    return ""


def _check_size(values: Mapping[str, Value]) -> str:
    return "size: a tmpfs of 0 bytes has no limit. Use 1 for one page" if values["size"] == 0 else ""


DIRECTORY = Param(
    "directory", read_directory, "Directory, with its content hidden from the rank.", "path", required=True
)
INODES = count_param("inodes", "Maximum number of files; 0 for no limit other than the size.", default=0)
NAMESPACED = "a rank that is a program; a mount namespace, which for users other than root needs a user namespace"

ENTRIES = (
    Entry(
        name="limit",
        side="outside",
        summary="Sets a resource limit of a running rank (prlimit).",
        inject=limit,
        verified="the limit in /proc/PID/limits after the change",
        healed="the previous limit is restored; after a lowered hard limit that needs CAP_SYS_RESOURCE",
        example='faults.limit("NOFILE", 16, rank=1, when=when.line("step 2"))',
        params=(
            choice_param("resource", LIMITS, "Name of the limit."),
            Param(
                "value",
                read_limit,
                'The new soft limit: bytes (or "64M"), seconds for CPU, a number for NOFILE and NPROC, or "unlimited".',
                "amount",
                required=True,
            ),
            flag_param(
                "hard", "Whether the hard limit is lowered as well, so that the rank cannot raise the soft limit again."
            ),
        ),
        requires=Requires(
            "/proc; for NPROC to have an effect, a rank that is not root",
            unavailable=lambda: no_proc() or why_no_prlimit(),
        ),
        acts=Acts(lasts=True),
        check=_check_limit,
    ),
    Entry(
        name="oom_score",
        side="outside",
        summary="Makes a rank the kernel's first victim when memory runs out (oom_score_adj).",
        inject=oom_score,
        verified="/proc/PID/oom_score_adj after the change",
        healed="the previous value is restored",
        example="faults.oom_score(1000, rank=0)",
        params=(
            count_param(
                "adjustment",
                "From -1000 (never a victim) to 1000 (first victim); lowering it needs CAP_SYS_RESOURCE.",
                default=1000,
                least=-1000,
                most=1000,
            ),
        ),
        requires=Requires("/proc", unavailable=no_proc),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="fd_leak",
        side="in rank",
        summary="The rank leaks descriptors, up to a number or up to its limit.",
        inject=leaks,
        verified="the number of entries in /proc/PID/fd",
        healed="",
        example="faults.fd_leak(rank=0, when=when.point('after_step'))",
        params=(
            count_param(
                "count", "Number of open descriptors after the leak; 0 for all that RLIMIT_NOFILE allows.", default=0
            ),
        ),
        requires=Requires("Python in the rank, started without -S, -I and -E; /proc", unavailable=no_proc),
    ),
    Entry(
        name="full_disk",
        side="before start",
        summary="The rank alone sees an empty file system of a few bytes at a directory.",
        inject=small_disk,
        verified="statvfs of the directory through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo",
        healed="ends with the rank",
        example='faults.full_disk("/tmp", size="64K", rank=0)',
        params=(
            DIRECTORY,
            size_param("size", 'Size in bytes, or "64K"; at least one page.', default=4096),
            INODES,
        ),
        acts=Acts(triggers=("start",)),
        requires=Requires(NAMESPACED, unavailable=lambda: why_not("mount")),
        check=_check_size,
        setup=Setup(
            prepare=preparing(lambda fault: (str(fault.param("directory")), fault.param("size"), fault.param("inodes")))
        ),
    ),
    Entry(
        name="full_inodes",
        side="before start",
        summary="The rank alone sees an empty file system at a directory, with room for data but only for few files.",
        inject=few_inodes,
        verified="statvfs of the directory through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo",
        healed="ends with the rank",
        example='faults.full_inodes("/tmp", rank=0)',
        params=(DIRECTORY, count_param("files", "Maximum number of files.", default=1, least=1)),
        acts=Acts(triggers=("start",)),
        requires=Requires(NAMESPACED, unavailable=lambda: why_not("mount")),
        setup=Setup(prepare=preparing(lambda fault: (str(fault.param("directory")), ROOMY, fault.param("files")))),
    ),
    Entry(
        name="full_shm",
        side="before start",
        summary="The rank alone sees a tiny /dev/shm: writes fail with ENOSPC, access to mapped memory with SIGBUS.",
        inject=small_shm,
        verified="statvfs of /dev/shm through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo",
        healed="ends with the rank",
        example='faults.full_shm(size="1M", rank="all")',
        params=(size_param("size", 'Size in bytes, or "1M"; at least one page.', default=4096), INODES),
        acts=Acts(triggers=("start",)),
        requires=Requires(
            NAMESPACED, unavailable=lambda: why_not("mount") if os.path.isdir(SHM) else f"this machine has no {SHM}"
        ),
        check=_check_size,
        setup=Setup(prepare=preparing(lambda fault: (SHM, fault.param("size"), fault.param("inodes")))),
    ),
    Entry(
        name="memory_limit",
        side="outside",
        summary="Moves a running rank into a cgroup with a memory limit: the kernel kills a process that exceeds it.",
        inject=_in_group(cgroup.limit_memory, "its memory could be limited"),
        verified="the rank's cgroup in /proc/PID/cgroup, and its limit after the change",
        healed="the limit is lifted, the rank returns to its cgroup, and the new one is removed",
        example='faults.memory_limit("256M", rank=1, when=when.line("step 2"))',
        params=(size_param("size", 'Limit of the rank with its children: bytes, or "256M".'),),
        requires=Requires(
            "a cgroup with the memory controller, of version 1 or 2, delegated to this user",
            unavailable=lambda: no_proc() or why_no_cgroup("memory"),
        ),
        acts=Acts(lasts=True),
        check=lambda values: "size: a rank cannot run without memory. Use 1M or more" if values["size"] == 0 else "",
    ),
    Entry(
        name="cpu_quota",
        side="outside",
        summary="Moves a running rank into a cgroup with a quota of processor time, as containers have.",
        inject=_in_group(cgroup.limit_cpu, "its processor time could be limited"),
        verified="the rank's cgroup in /proc/PID/cgroup, and its quota after the change",
        healed="the quota is lifted, the rank returns to its cgroup, and the new one is removed",
        example='faults.cpu_quota(0.1, rank=1, when=when.line("step 2"))',
        params=(factor_param("cpus", "Processors that the rank and its children may use.", default=0.5, least=0.01),),
        requires=Requires(
            "a cgroup with the cpu controller, of version 1 or 2, delegated to this user",
            unavailable=lambda: no_proc() or why_no_cgroup("cpu"),
        ),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="freeze",
        side="outside",
        summary="Freezes a rank and its children in a cgroup: of all signals, only those that kill take effect.",
        inject=_in_group(cgroup.freeze, "it could be frozen"),
        verified="the rank's cgroup in /proc/PID/cgroup, and frozen 1 in its cgroup.events",
        healed="it is thawed and returns to its cgroup; if derail is killed, the job's keeper ends the rank",
        example='faults.freeze(rank=1, when=when.line("step 2"), for_=5)',
        requires=Requires(
            "a cgroup of version 2, delegated to this user",
            unavailable=lambda: no_proc() or why_no_cgroup("freezer"),
        ),
        acts=Acts(lasts=True),
    ),
)
