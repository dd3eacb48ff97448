"""Mechanisms of the operating system that work on this machine, or why not. Each is really tried, once per process.

Every function returns a reason, which is empty if the mechanism works. Faults that need one call the same function as
``derail doctor`` does. A trial that might do harm runs in a child, or on one.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from derail.platform import cgroups, trials

if TYPE_CHECKING:
    from collections.abc import Callable

PROC = Path("/proc")
YAMA = PROC / "sys" / "kernel" / "yama" / "ptrace_scope"


def why_no_proc() -> str:
    """Return why other processes cannot be inspected here."""
    return "" if (PROC / "self" / "limits").exists() else "there is no /proc here, which would show the effect"


@cache
def why_no_pidfd() -> str:
    """Return why a process cannot be held by a descriptor (``pidfd_open``): tried on a child."""
    if not hasattr(os, "pidfd_open"):
        return "this system has no pidfd_open, or this Python was built without it"

    def hold(pid: int) -> None:
        os.close(os.pidfd_open(pid))

    return _on_a_child("pidfd_open", hold)


@cache
def why_no_prlimit() -> str:
    """Return why the limits of another process cannot be set: tried on a child."""
    import resource

    if not hasattr(resource, "prlimit"):
        return "this system has no prlimit, which sets the limits of another process"

    def lower(pid: int) -> None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_CORE)
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, hard))

    return _on_a_child("prlimit", lower)


@cache
def why_no_idle_priority() -> str:
    """Return why another process cannot be restricted to otherwise idle CPUs (SCHED_IDLE): tried on a child."""
    if not hasattr(os, "SCHED_IDLE"):
        return "this system has no SCHED_IDLE"

    def idle(pid: int) -> None:
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(pid, os.sched_getaffinity(pid))

    return _on_a_child("sched_setscheduler", idle)


@cache
def why_no_memory_access() -> str:
    """Return why the memory of another process cannot be read: tried on a child."""
    reason = why_no_proc()

    def look(pid: int) -> None:
        with (PROC / str(pid) / "maps").open() as maps:
            start = int(next(maps).partition("-")[0], 16)
        with (PROC / str(pid) / "mem").open("rb", buffering=0) as memory:
            memory.seek(start)
            memory.read(4)

    return reason or _on_a_child("/proc/PID/mem", look)


@cache
def why_no_user_namespace() -> str:
    """Return why a process cannot enter a user namespace in which its user keeps its number."""
    return trials.run(trials.USER_NAMESPACE)


@cache
def why_no_pid_namespace() -> str:
    """Return why a process cannot be the first one of a pid namespace."""
    return trials.run(trials.PID_NAMESPACE)


@cache
def why_no_netem() -> str:
    """Return why packets cannot be delayed on the loopback of a network namespace (``tc qdisc ... netem``)."""
    return trials.run(trials.NETEM)


@cache
def why_no_ptrace() -> str:
    """Return why a process cannot attach to another process of the same user."""
    return trials.run(trials.PTRACE)


@cache
def why_no_seccomp() -> str:
    """Return why a process cannot forbid itself a system call."""
    from derail.platform.syscalls import this_machine

    machine = this_machine()
    if machine is None:
        return "the numbers of system calls are known on Linux on x86_64 and aarch64 only"
    return trials.run(trials.SECCOMP, machine.number("getppid"))


@cache
def why_no_memory_files() -> str:
    """Return why there are no files in memory (``memfd_create``)."""
    return trials.run(trials.MEMORY_FILE) if hasattr(os, "memfd_create") else "this system has no memfd_create"


@cache
def why_no_full_device() -> str:
    """Return why there is no file that is always full."""
    return trials.run(trials.FULL)


@cache
def why_no_shared_memory() -> str:
    """Return why /dev/shm cannot be written to."""
    return trials.run(trials.SHARED_MEMORY)


@cache
def why_no_cgroup(controller: cgroups.Controller) -> str:
    """Return why a child cannot be put into a new cgroup with "memory", "cpu" or "freezer": tried."""
    hierarchy = cgroups.hierarchy(controller)
    own = None if hierarchy is None else hierarchy.standing(os.getpid())
    if hierarchy is None or own is None:
        return f"no cgroup {'of version 2' if controller == 'freezer' else f'with {controller}'} is mounted here"
    group = own / f"derail-trial-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        return f"{own} was not delegated to this user: {error.strerror}"
    try:
        if not (group / hierarchy.knob).exists():
            enabled = (own / "cgroup.subtree_control").read_text().strip() or "nothing"
            return f"{own} enables {enabled} for its children (cgroup.subtree_control), not {controller}"

        def enter(pid: int) -> None:
            hierarchy.enter(pid, group.name)
            if controller == "freezer":
                _freeze_and_thaw(group)
            hierarchy.free(group)

        return _on_a_child("cgroup", enter)
    except OSError as error:
        return f"cgroup: {error.strerror}"
    finally:
        with suppress(OSError):
            group.rmdir()


def _freeze_and_thaw(group: Path) -> None:
    """Freeze the processes of a cgroup until the kernel confirms it, and thaw them in any case."""
    import select

    with (group / "cgroup.events").open("rb", buffering=0) as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        try:
            (group / "cgroup.freeze").write_text("1")
            while b"frozen 1" not in events.read():
                if not poller.poll(5_000):
                    raise TimeoutError("the kernel did not report within 5 s that the child is frozen")
                events.seek(0)
        finally:
            (group / "cgroup.freeze").write_text("0")


def ptrace_scope() -> str:
    """Return Yama's setting for ptrace, with its meaning."""
    scopes = {
        "0": "any process of the same user",
        "1": "descendants",
        "2": "with CAP_SYS_PTRACE",
        "3": "no process",
    }
    try:
        scope = YAMA.read_text().strip()
    except OSError:
        return "Yama is not available"
    return f"Yama scope {scope}: {scopes.get(scope, 'unknown')}"


def _on_a_child(what: str, act: Callable[[int], None]) -> str:
    """Return why an action fails on a waiting child; empty if it succeeds."""
    import subprocess

    waits = "import sys; sys.stdout.write('.'); sys.stdout.close(); sys.stdin.read()"
    try:
        child = subprocess.Popen(
            (sys.executable, "-I", "-S", "-c", waits), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    except OSError as error:
        return f"it could not be tried: {error}"
    with child:
        assert child.stdout is not None
        child.stdout.read(1)  # its program runs, not the one from before its exec
        try:
            act(child.pid)
        except OSError as error:
            return f"{what}: {error.strerror or error}"
    return ""
