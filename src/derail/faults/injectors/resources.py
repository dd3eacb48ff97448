"""What a rank may use up: limits, processor time, descriptors, disk space. In programs that were never changed."""

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
"""The limits by name, and what ``/proc/PID/limits`` calls them."""
no_proc = why_no_proc


def living(aim: Aim) -> int | None:
    """The process of a rank that has not ended."""
    pid = aim.control.pid(aim.rank)
    now = None if pid is None else read_process_state(pid)
    return None if now is None or now.ended else pid


def limit(aim: Aim) -> Step:
    """Set a limit of a running rank, and read it back from /proc."""
    pid, name, value = living(aim), aim.text("resource"), int(aim.number("value"))
    if pid is None:
        return NotReached("the rank had ended before its limit could be set")
    which = getattr(resource, f"RLIMIT_{name}")
    before = resource.prlimit(pid, which)
    soft, hard = before
    if hard != UNLIMITED and (value == UNLIMITED or value > hard):
        return Errored(f"{name} of rank {aim.rank} cannot become {_told(value)}: its hard limit is {hard}")
    wanted = (value, value if aim.flag("hard") else hard)
    if wanted == before:
        return Errored(f"{name} of rank {aim.rank} was {_told(value)} already: nothing would change")
    aim.undo.append((f"{name} of rank {aim.rank} back to {_told(soft)}", lambda: _set_limit(aim, which, before)))
    resource.prlimit(pid, which, wanted)
    row = _limit_row(pid, LIMITS[name])
    if row[0] != _told(value):
        return Errored(f"/proc/{pid}/limits says {' '.join(row) or 'nothing'} of {LIMITS[name]!r}, not {_told(value)}")
    return Injected(f"{name} of pid {pid} was {_told(soft)}; /proc/{pid}/limits says {row[0]} (hard: {row[1]})")


def _set_limit(aim: Aim, which: int, pair: tuple[int, int]) -> None:
    pid = living(aim)
    if pid is not None:
        resource.prlimit(pid, which, pair)


def _told(value: int) -> str:
    return "unlimited" if value == UNLIMITED else str(value)


def _limit_row(pid: int, title: str) -> tuple[str, str]:
    for line in (PROC / str(pid) / "limits").read_text().splitlines():
        if line.startswith(title):
            soft, hard, *_ = line[len(title) :].split()
            return soft, hard
    return "", ""


def oom_score(aim: Aim) -> Step:
    """Make the rank the kernel's preferred victim (or the opposite), and read it back."""
    pid, wanted = living(aim), int(aim.number("adjustment"))
    if pid is None:
        return NotReached("the rank had ended before its score could be set")
    path = PROC / str(pid) / "oom_score_adj"
    before = path.read_text().strip()
    if before == str(wanted):
        return Errored(f"{path} was {wanted} already: nothing would change")
    aim.undo.append((f"oom_score_adj of rank {aim.rank} back to {before}", lambda: _put_back(aim, before)))
    path.write_text(str(wanted))
    seen = path.read_text().strip()
    if seen != str(wanted):
        return Errored(f"{path} is {seen} after {wanted} was written")
    score = (PROC / str(pid) / "oom_score").read_text().strip()
    return Injected(f"{path} was {before}, is {seen}; oom_score is {score}")


def _put_back(aim: Aim, before: str) -> None:
    pid = living(aim)
    if pid is not None:
        (PROC / str(pid) / "oom_score_adj").write_text(before)


def leaks(aim: Aim) -> Step:
    """The rank has said that it leaks descriptors: count them from outside."""
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
    """The rank was started with a small file system at a directory: look at it through the rank's own root."""
    size, inodes = int(aim.number("size")), int(aim.number("inodes"))
    return mounted(aim, aim.text("directory"), size=size, inodes=inodes, lives=lambda: living(aim) is not None)


def small_shm(aim: Aim) -> Step:
    """The same at /dev/shm."""
    size, inodes = int(aim.number("size")), int(aim.number("inodes"))
    return mounted(aim, SHM, size=size, inodes=inodes, lives=lambda: living(aim) is not None)


def few_inodes(aim: Aim) -> Step:
    """The rank was started with a file system that takes few files: look at it through the rank's own root."""
    files, where = int(aim.number("files")), aim.text("directory")
    return mounted(aim, where, size=ROOMY, inodes=files, lives=lambda: living(aim) is not None)


SHM = "/dev/shm"
ROOMY = 16 << 20
"""Bytes of a disk that has room for data, and for no more files."""


def _in_group(act: Callable[[Aim, int], Step], what: str) -> Callable[[Aim], Step]:
    """What is done to a running rank in a cgroup of its own."""

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
        return "a CPU limit of 0 is taken as 1 second by the kernel; say 1"
    return ""


def _check_size(values: Mapping[str, Value]) -> str:
    return "a tmpfs of 0 bytes has no limit at all; say 1 for one page" if values["size"] == 0 else ""


DIRECTORY = Param("directory", read_directory, "Where; what it held is hidden from the rank.", "path", required=True)
INODES = count_param("inodes", "How many files fit; 0 for no limit but the size.", default=0)
NAMESPACED = "a rank that is a program; a mount namespace, as an ordinary user inside a user namespace"

ENTRIES = (
    Entry(
        name="limit",
        side="outside",
        summary="Sets a resource limit of a running rank (prlimit).",
        inject=limit,
        verified="the limit in /proc/PID/limits, read after it was set",
        healed="the limit of before is set again; a hard limit that was lowered needs CAP_SYS_RESOURCE for that",
        example='faults.limit("NOFILE", 16, rank=1, when=when.line("step 2"))',
        params=(
            choice_param("resource", LIMITS, "Which limit."),
            Param(
                "value",
                read_limit,
                'The new soft limit: bytes (or "64M"), seconds for CPU, a number for NOFILE and NPROC, or "unlimited".',
                "amount",
                required=True,
            ),
            flag_param("hard", "Whether the hard limit is lowered too, so that the rank cannot raise it again."),
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
        summary="Makes a rank the first that the kernel kills when memory runs out (oom_score_adj).",
        inject=oom_score,
        verified="/proc/PID/oom_score_adj, read after it was written",
        healed="the value of before is written again",
        example="faults.oom_score(1000, rank=0)",
        params=(
            count_param(
                "adjustment",
                "From -1000 (never) to 1000 (first); lowering it needs CAP_SYS_RESOURCE.",
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
        summary="The rank opens descriptors and never closes them, up to a number or until no more can be opened.",
        inject=leaks,
        verified="by counting /proc/PID/fd",
        healed="",
        example="faults.fd_leak(rank=0, when=when.point('after_step'))",
        params=(count_param("count", "How many it then has open; 0 for all that RLIMIT_NOFILE allows.", default=0),),
        requires=Requires("Python in the rank, started without -S, -I and -E; /proc", unavailable=no_proc),
    ),
    Entry(
        name="full_disk",
        side="before start",
        summary="The rank sees an empty file system of a few bytes at a directory; nobody else does.",
        inject=small_disk,
        verified="statvfs of the directory through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo",
        healed="it ends with the rank",
        example='faults.full_disk("/tmp", size="64K", rank=0)',
        params=(
            DIRECTORY,
            size_param("size", 'How much fits: bytes, or "64K"; at least one page.', default=4096),
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
        summary="The rank sees an empty file system at a directory that has room for data, but for few files only.",
        inject=few_inodes,
        verified="statvfs of the directory through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo",
        healed="it ends with the rank",
        example='faults.full_inodes("/tmp", rank=0)',
        params=(DIRECTORY, count_param("files", "How many files fit.", default=1, least=1)),
        acts=Acts(triggers=("start",)),
        requires=Requires(NAMESPACED, unavailable=lambda: why_not("mount")),
        setup=Setup(prepare=preparing(lambda fault: (str(fault.param("directory")), ROOMY, fault.param("files")))),
    ),
    Entry(
        name="full_shm",
        side="before start",
        summary="The rank sees a /dev/shm of a few bytes: writes fail with ENOSPC, touching mapped memory with SIGBUS.",
        inject=small_shm,
        verified="statvfs of /dev/shm through /proc/PID/root, and the tmpfs in /proc/PID/mountinfo",
        healed="it ends with the rank",
        example='faults.full_shm(size="1M", rank="all")',
        params=(size_param("size", 'How much fits: bytes, or "1M"; at least one page.', default=4096), INODES),
        acts=Acts(triggers=("start",)),
        requires=Requires(
            NAMESPACED, unavailable=lambda: why_not("mount") if os.path.isdir(SHM) else f"there is no {SHM} here"
        ),
        check=_check_size,
        setup=Setup(prepare=preparing(lambda fault: (SHM, fault.param("size"), fault.param("inodes")))),
    ),
    Entry(
        name="memory_limit",
        side="outside",
        summary="Puts a running rank into a cgroup that may have only so much memory: who takes more is killed.",
        inject=_in_group(cgroup.limit_memory, "its memory could be limited"),
        verified="the rank's cgroup in /proc/PID/cgroup, and the limit there, read after it was written",
        healed="the limit is taken away, the rank goes back, and the cgroup is removed",
        example='faults.memory_limit("256M", rank=1, when=when.line("step 2"))',
        params=(size_param("size", 'How much it may have, its children included: bytes, or "256M".'),),
        requires=Requires(
            "a cgroup with the memory controller, of version 1 or 2, delegated to this user",
            unavailable=lambda: no_proc() or why_no_cgroup("memory"),
        ),
        acts=Acts(lasts=True),
        check=lambda values: "a rank without any memory cannot run; say 1M or more" if values["size"] == 0 else "",
    ),
    Entry(
        name="cpu_quota",
        side="outside",
        summary="Puts a running rank into a cgroup that may have only so much processor time, as containers do.",
        inject=_in_group(cgroup.limit_cpu, "its processor time could be limited"),
        verified="the rank's cgroup in /proc/PID/cgroup, and the quota there, read after it was written",
        healed="the quota is taken away, the rank goes back, and the cgroup is removed",
        example='faults.cpu_quota(0.1, rank=1, when=when.line("step 2"))',
        params=(
            factor_param("cpus", "How many processors it may use, its children included.", default=0.5, least=0.01),
        ),
        requires=Requires(
            "a cgroup with the cpu controller, of version 1 or 2, delegated to this user",
            unavailable=lambda: no_proc() or why_no_cgroup("cpu"),
        ),
        acts=Acts(lasts=True),
    ),
    Entry(
        name="freeze",
        side="outside",
        summary="Freezes a rank and its children in a cgroup: no signal reaches them but one that ends them at once.",
        inject=_in_group(cgroup.freeze, "it could be frozen"),
        verified="the rank's cgroup in /proc/PID/cgroup, and frozen 1 in its cgroup.events",
        healed="it is thawed, goes back, the cgroup is removed; if derail is killed, the job's keeper ends the rank",
        example='faults.freeze(rank=1, when=when.line("step 2"), for_=5)',
        requires=Requires(
            "a cgroup of version 2, delegated to this user",
            unavailable=lambda: no_proc() or why_no_cgroup("freezer"),
        ),
        acts=Acts(lasts=True),
    ),
)
