"""What the kernel says of a process from outside: its state, its signal masks, its command line.

Everything is None (or empty) where there is no ``/proc`` or the process is gone: the caller decides what that means.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """A look at ``/proc/PID/status``.

    Attributes:
        state: one letter: R, S, D, T, t, Z, X ...
        pending: signals that wait to be delivered to the process or its main thread.
        blocked: signals that the main thread blocks.
        ignored: signals that the process ignores.
        caught: signals that the process has a handler for.
    """

    state: str
    pending: frozenset[int]
    blocked: frozenset[int]
    ignored: frozenset[int]
    caught: frozenset[int]

    @property
    def ended(self) -> bool:
        """Whether it is dead already, reaped or not."""
        return self.state in ("Z", "X")


def look_at(pid: int) -> ProcessState | None:
    """How a process is now; None if that cannot be seen."""
    try:
        text = (PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return None
    told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def mask(name: str) -> frozenset[int]:
        bits = int(told.get(name, "0").strip() or "0", 16)
        return frozenset(number for number in range(1, 65) if bits >> (number - 1) & 1)

    return ProcessState(
        state=told.get("State", "?").strip()[:1],
        pending=mask("SigPnd") | mask("ShdPnd"),
        blocked=mask("SigBlk"),
        ignored=mask("SigIgn"),
        caught=mask("SigCgt"),
    )


def command_line(pid: int) -> tuple[str, ...]:
    """The argv of a process; empty if it cannot be seen or the process has ended."""
    try:
        data = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(part.decode(errors="replace") for part in data.split(b"\0")[:-1])


def group_members(group: int) -> tuple[int, ...]:
    """The processes of a process group that have not ended."""
    found = []
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(errors="replace")
        except OSError:
            continue
        state, _, its_group = stat.rpartition(")")[2].split()[:3]
        if int(its_group) == group and state not in ("Z", "X"):
            found.append(int(entry.name))
    return tuple(sorted(found))
