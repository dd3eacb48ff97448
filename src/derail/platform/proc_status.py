"""The kernel's view of a process from outside: its state, its signal masks, its command line.

All functions return None (or empty) without ``/proc`` or if the process is gone: the caller decides what that means.
"""

from __future__ import annotations

from dataclasses import dataclass


def read_status(pid: int | str, *, thread: int | str = "") -> dict[str, str]:
    """Return the fields of ``/proc/PID/status`` (proc_pid_status(5)) by name; empty if it cannot be read.

    Args:
        pid: the process, or "self".
        thread: one of its threads, by number; by default the first.
    """
    path = f"/proc/{pid}/task/{thread}/status" if thread else f"/proc/{pid}/status"
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def status_number(pid: int, field: str) -> int:
    """Return a number from ``/proc/PID/status`` of a process or thread, such as "Tgid"; 0 if it cannot be read.

    Other fields are not parsed: each held system call asks for one.
    """
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            value = file.read().partition(f"\n{field}:".encode())[2].split(maxsplit=1)
    except OSError:
        return 0
    return int(value[0]) if value and value[0].isdigit() else 0


def signal_mask(fields: dict[str, str], *names: str) -> int | None:
    """Return the union of the signal masks ``names`` of a status, with bit ``n - 1`` for signal ``n``.

    None if the status holds none of them.
    """
    masks = [int(fields[name], 16) for name in names if fields.get(name)]
    if not masks:
        return None
    union = 0
    for mask in masks:
        union |= mask
    return union


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The content of ``/proc/PID/status`` at one moment.

    Attributes:
        state: one letter: R, S, D, T, t, Z, X ...
        pending: signals that are pending for the process or its main thread.
        blocked: signals that the main thread blocks.
        ignored: signals that the process ignores.
        caught: signals with a handler in the process.
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


def read_process_state(pid: int) -> ProcessState | None:
    """Return the present state of a process; None if that cannot be read."""
    fields = read_status(pid)
    if not fields:
        return None

    def signals(*names: str) -> frozenset[int]:
        bits = signal_mask(fields, *names) or 0
        return frozenset(number for number in range(1, 65) if bits >> (number - 1) & 1)

    return ProcessState(
        state=fields.get("State", "?")[:1],
        pending=signals("SigPnd", "ShdPnd"),
        blocked=signals("SigBlk"),
        ignored=signals("SigIgn"),
        caught=signals("SigCgt"),
    )


def command_line(pid: int) -> tuple[str, ...]:
    """Return the argv of a process; empty if it cannot be read or the process has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            data = file.read()
    except OSError:
        return ()
    return tuple(part.decode(errors="replace") for part in data.split(b"\0")[:-1])
