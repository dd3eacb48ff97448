"""Checkup of this machine: every mechanism, and every fault that needs one, with the reason if it does not work."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING

from derail.faults.engine.prepare import SITE
from derail.faults.inrank.rank_plan import VARIABLE
from derail.faults.mechanisms import namespaces, sockets
from derail.faults.registry import entries
from derail.model.input_error import not_known
from derail.platform import capabilities, seccomp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WIDTH = 100
LEAST_FREE = 2**27
"""Bytes that should be free for the logs and leftovers of a job."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Ability that a machine may have.

    Attributes:
        name: its name, for ``--require``.
        purpose: what it is for.
        why_not: tries it; returns the reason why it does not work, or an empty text.
        more: returns details about a mechanism that works.
    """

    name: str
    purpose: str
    why_not: Callable[[], str]
    more: Callable[[], str] = str


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of trying a mechanism or fault.

    Attributes:
        name: name of the mechanism or fault.
        available: whether it works here.
        told: the reason why it does not work, or details if it does.
        purpose: what it is for.
    """

    name: str
    available: bool
    told: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Checkup:
    """All results for a machine."""

    mechanisms: tuple[Finding, ...]
    faults: tuple[Finding, ...]

    def missing(self, required: Sequence[str]) -> list[str]:
        """Return what is required but unavailable, with reasons; required are names, or a number of faults.

        Raises:
            ValueError: if a name does not exist.
        """
        results = {each.name: each for each in (*self.mechanisms, *self.faults)}
        lacking = []
        for word in required:
            if word.isdigit():
                able = sum(fault.available for fault in self.faults)
                if able < int(word):
                    lacking.append(f"{word} faults are required, {able} of {len(self.faults)} are available here")
            elif word not in results:
                raise ValueError(f"--require: {not_known(word, results, 'mechanism or fault')}")
            elif not results[word].available:
                lacking.append(f"{word}: {results[word].told}")
        return lacking


def _why_not_entered() -> str:
    """Return why a Python started like a rank does not run derail's sitecustomize; empty if it does."""
    from derail.platform.bounded import run_bounded

    source = "import sys; sys.exit('_derail_inrank.bootstrap' not in sys.modules)"
    before = os.environ.get("PYTHONPATH")
    path = f"{SITE}{os.pathsep}{before}" if before else str(SITE)
    tried = run_bounded((sys.executable, "-c", source), 60, env={**os.environ, "PYTHONPATH": path, VARIABLE: ""})
    output = tried.stderr.decode(errors="replace").strip().splitlines()
    if tried.returncode == 0:
        return ""
    return output[-1] if output else "Python did not run the sitecustomize on PYTHONPATH"


def _pythons() -> str:
    import shutil

    others = [f"3.{minor}" for minor in range(9, 16) if shutil.which(f"python3.{minor}")]
    mine = ".".join(map(str, sys.version_info[:3]))
    return f"this is {mine}; on PATH: {', '.join(others) or 'no other'}; ranks may be 3.9 to 3.14"


def _evidence_room() -> int:
    import shutil
    import tempfile

    return shutil.disk_usage(tempfile.gettempdir()).free


def _why_no_room() -> str:
    free = _evidence_room()
    return "" if free >= LEAST_FREE else f"{free // 2**20} MiB are free for temporary files; 128 MiB should be"


def _torch_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _mechanisms() -> tuple[Mechanism, ...]:
    return (
        Mechanism("proc", "seeing what a fault did: states, signals, limits", capabilities.why_no_proc),
        Mechanism("pidfd_open", "exits without SIGCHLD; else a thread waits for each rank", capabilities.why_no_pidfd),
        Mechanism("pidfd_getfd", "sever, reset", sockets.why_not),
        Mechanism(
            "ptrace", "trace_stop; what pidfd_getfd asks for", capabilities.why_no_ptrace, capabilities.ptrace_scope
        ),
        Mechanism("process_memory", "path= of faults in system calls", capabilities.why_no_memory_access),
        Mechanism("prlimit", "limit", capabilities.why_no_prlimit),
        Mechanism("sched_idle", "starve", capabilities.why_no_idle_priority),
        Mechanism("user_namespace", "the other namespaces, as an ordinary user", capabilities.why_no_user_namespace),
        Mechanism("mount_namespace", "full_disk, full_shm (with a tmpfs)", partial(namespaces.why_not, "mount")),
        Mechanism("net_namespace", "loopback_down", partial(namespaces.why_not, "net")),
        Mechanism("time_namespace", "monotonic_offset", partial(namespaces.why_not, "time")),
        Mechanism("pid_namespace", "no fault yet: a node that dies with all in it", capabilities.why_no_pid_namespace),
        Mechanism("seccomp", "bad_syscall", capabilities.why_no_seccomp),
        Mechanism("seccomp_notify", "syscall_errno, syscall_delay", seccomp.why_not),
        Mechanism("cgroup_memory", "memory_limit", partial(capabilities.why_no_cgroup, "memory")),
        Mechanism("cgroup_cpu", "cpu_quota", partial(capabilities.why_no_cgroup, "cpu")),
        Mechanism("cgroup_freezer", "freeze", partial(capabilities.why_no_cgroup, "freezer")),
        Mechanism("netem", "no fault yet: the proxy delays without it", capabilities.why_no_netem),
        Mechanism("dev_shm", "full_shm, and the ranks' own shared memory", capabilities.why_no_shared_memory),
        Mechanism("dev_full", "a disk that is always full", capabilities.why_no_full_device),
        Mechanism("memfd", "values of functions; else they are temporary files", capabilities.why_no_memory_files),
        Mechanism("sitecustomize", "faults inside ranks; never with python -I, -E or -S", _why_not_entered),
        Mechanism("python", "ranks, whatever Python runs derail", str, _pythons),
        Mechanism("disk", "logs and journals", _why_no_room, lambda: f"{_evidence_room() / 2**30:.1f} GiB are free"),
        Mechanism("torch", "jobs that use it", lambda: "" if _torch_version() else "not installed", _torch_version),
    )


def examine() -> Checkup:
    """Try everything once. This takes a second or two, and leaves nothing behind."""
    return Checkup(
        tuple(_tried(each) for each in _mechanisms()),
        tuple(
            Finding(entry.name, not reason, reason, entry.summary)
            for entry in entries().values()
            for reason in (entry.requires.unavailable(),)
        ),
    )


def _tried(mechanism: Mechanism) -> Finding:
    try:
        reason = mechanism.why_not()
        details = reason or mechanism.more()
    except Exception as error:  # a trial that raises has not shown that it works; the others are still reported
        reason = details = f"trial failed: {type(error).__name__}: {error}"
    return Finding(mechanism.name, not reason, details, mechanism.purpose)


def render_checkup(checkup: Checkup) -> str:
    """Return a line or two for each mechanism, then the unavailable faults, and the number of available ones."""
    return "\n".join(_lines(checkup)) + "\n"


def _lines(checkup: Checkup) -> Iterator[str]:
    yield "     mechanism        purpose, and result"
    for result in checkup.mechanisms:
        begin = f"{'yes' if result.available else 'no ':<3}  {result.name:<16} "
        yield from wrap(result.purpose, WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
        if result.told:
            indent = " " * len(begin)
            yield from wrap(result.told, WIDTH, initial_indent=indent, subsequent_indent=indent)
    yield ""
    for fault in checkup.faults:
        if not fault.available:
            yield from wrap(f"fault {fault.name} is unavailable here: {fault.told}", WIDTH, subsequent_indent="  ")
    able = sum(fault.available for fault in checkup.faults)
    yield f"{able} of {len(checkup.faults)} faults are available on this machine"


def as_data(checkup: Checkup) -> dict[str, object]:
    """Return the same as plain data."""

    def row(result: Finding) -> dict[str, object]:
        return {"name": result.name, "available": result.available, "told": result.told, "for": result.purpose}

    return {
        "mechanisms": [row(result) for result in checkup.mechanisms],
        "faults": [{"name": fault.name, "available": fault.available, "told": fault.told} for fault in checkup.faults],
    }
