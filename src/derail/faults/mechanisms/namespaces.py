"""Namespaces for ranks: the shim in front of a rank's program, and the check that this machine allows it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from derail.model.input_error import InputError
from derail.model.spec import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from derail.faults.model.plan import Fault
    from derail.model.spec import RankSpec

SHIM = Path(__file__).parent / "exec_shims" / "namespace.py"
# -X and its value come first, so that a search for -I on a rank's command line stops before the shim's own -I.
_PYTHON = ("-X", "utf8", "-I", "-S")


def enter(rank: RankSpec, fault: Fault, what: Mapping[str, object]) -> RankSpec:
    """Return the rank with its program started in new namespaces.

    Raises:
        InputError: if the rank is a function: no shim can precede its process.
    """
    if not isinstance(rank.run, Command):
        raise InputError(
            f"{fault.name} on rank {rank.rank}: expected a rank that runs a program, got a function: the fault acts "
            f"before the program starts. Run a script, for example ({fault.id})"
        )
    return replace(rank, run=Command((*_shim(what), *rank.run.argv)))


@cache
def why_not(*namespaces: str) -> str:
    """Return why a process cannot enter such namespaces here; empty if a trial with ``true`` succeeds."""
    from subprocess import TimeoutExpired

    from derail.platform.bounded import run_bounded

    what: dict[str, object] = {"namespaces": namespaces}
    if "mount" in namespaces:
        what["tmpfs"] = {"path": "/tmp", "size": 4096, "inodes": 0}
    if "time" in namespaces:
        what["clocks"] = {"monotonic": 1.0}
    if not os.path.isdir("/proc/self/ns"):
        return "this machine has no namespaces (no /proc/self/ns)"
    try:
        tried = run_bounded(
            (*_shim(what), "true"), 30, cwd="/"
        )  # the trial hides /tmp, which may be the working directory
    except (OSError, TimeoutExpired) as error:
        return f"the trial of namespaces failed: {error}"
    said = tried.stderr.decode(errors="replace").strip()
    return "" if tried.returncode == 0 else f"{said or f'the trial ended with {tried.returncode}'} ({_HINT})"


_HINT = "unprivileged user namespaces may be switched off, by a sysctl, AppArmor, or the seccomp filter of a container"


def is_elsewhere(pid: int, kind: str) -> bool:
    """Return whether a process is in another namespace of a kind ("mnt", "net", "time") than this process."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return False


def _shim(what: Mapping[str, object]) -> tuple[str, ...]:
    return (sys.executable, *_PYTHON, str(SHIM), json.dumps(what))
