"""State that a child inherits from its parent, and that the launcher must give to a rank forked from a zygote.

A spawned rank has the launcher's present umask, limits, ignored signals, CPUs and so on. A zygote has those from the
time of its start.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from derail.platform.proc_status import read_status
from derail.spawn.zygote import child_setup

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import TypeAlias

    from derail.model.spec import RankSpec

    Variables: TypeAlias = tuple[tuple[str, str], ...]

READ_EARLY = (
    *("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LANG", "LC_", "TZ"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_", "TORCH_", "PYTORCH_"),
)
"""Prefixes of variables that the interpreter and libraries read when they are loaded, and never again."""

_READ_LATER = frozenset({"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONFAULTHANDLER"})
_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


def setting(spec: RankSpec) -> child_setup.Setting:
    """Return the setting of a rank of ``spec`` that a zygote forks; its streams are sent as descriptors."""
    status = read_status("self")
    return replace(
        child_setup.Setting.of(spec, -1, -1),
        cpus=cpus(spec),
        umask=int(status["Umask"], 8) if "Umask" in status else _swap_umask(),
        limits=_limits(),
        ignored=_ignored(status.get("SigIgn")),
    )


def cpus(spec: RankSpec) -> tuple[int, ...] | None:
    """Return the CPUs that the rank may use: its own, or the launcher's; None where the platform lacks bindings."""
    if spec.cpus is not None:
        return tuple(sorted(spec.cpus))
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def early_variables(env: Mapping[str, str]) -> Variables:
    """Return the variables of a rank that a zygote must have had from its start."""
    return tuple(sorted((name, value) for name, value in env.items() if _is_read_early(name)))


def environment(variables: Variables) -> dict[str, str]:
    """Return the launcher's environment, with its early-read variables replaced by these."""
    return {**{n: value for n, value in os.environ.items() if not _is_read_early(n)}, **dict(variables)}


def standing() -> Hashable:
    """Return inherited state that a process cannot simply change later: owner, priority, control group."""
    owner = (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *sorted(os.getgroups()))
    files = tuple(_read(f"/proc/self/{name}") for name in ("cgroup", "oom_score_adj"))
    return (owner, os.getpriority(os.PRIO_PROCESS, 0), files)


def _is_read_early(name: str) -> bool:
    return name.startswith(READ_EARLY) and name not in _READ_LATER


def _limits() -> tuple[tuple[int, int, int], ...]:
    import resource

    numbers = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    return tuple((number, *resource.getrlimit(number)) for number in sorted(numbers))


def _ignored(mask: str | None) -> tuple[int, ...]:
    if mask is not None:
        bits = int(mask, 16)
        numbers = {n for n in signal.valid_signals() if bits >> (n - 1) & 1}
    else:
        numbers = {n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN}
    return tuple(sorted(int(number) for number in numbers | _IGNORED_BY_PYTHON))


def _swap_umask() -> int:
    # This is the only way to read it here; other threads may create a file in between.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
