"""The process table: read from /proc where there is one, else through psutil."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.platform.proc_status import read_status, signal_mask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_PROC = "/proc"
_PF_EXITING, _PF_FORKNOEXEC, _PF_KTHREAD = 0x4, 0x40, 0x200000
_SIGKILL_BIT = 1 << 8
_EXEC_LOOKS, _EXEC_PAUSE = 100, 0.001
_HAS_PROC = os.path.exists("/proc/self/stat") or sys.platform == "linux"
"""Whether /proc is asked. On Linux psutil has no other source: where /proc is hidden, there are no answers."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process, as it was a moment ago.

    Attributes:
        pid: its number, which may be another's later.
        started: when it was started, in the platform's own unit: with ``pid``, it says which process is meant.
        name: the short name that the kernel knows it by.
        state: the letter of proc(5): R, S, D, T, t, Z ...; "?" for a living process where the letter is not known.
        ppid: its parent.
        pgid: its process group.
        sid: its session.
    """

    pid: int
    started: float
    name: str
    state: str
    ppid: int
    pgid: int
    sid: int

    @property
    def alive(self) -> bool:
        """Whether it still ran: a zombie does not."""
        return self.state not in ("Z", "X", "x")


def is_proc_foreign() -> bool:
    """Return whether /proc is that of another PID namespace (``unshare --pid`` without ``--mount-proc``): its numbers
    mean other processes here."""
    try:
        return os.readlink(f"{_PROC}/self") != str(os.getpid())
    except OSError:
        return _HAS_PROC


def every_pid() -> list[int]:
    """The numbers of all processes that this one may see, zombies too."""
    if _HAS_PROC:
        try:
            return [] if is_proc_foreign() else [int(name) for name in os.listdir(_PROC) if name.isdigit()]
        except OSError:
            return []
    import psutil

    return psutil.pids()


def known_processes() -> frozenset[tuple[int, int]]:
    """Return an identity for each process that there is: its number, and that of its directory in /proc.

    The kernel gives another inode to the directory of the next process that gets the number, so PID reuse is never
    mistaken for the same process. Empty where there is no /proc.
    """
    return frozenset((number, _inode(number)) for number in every_pid()) if _HAS_PROC else frozenset()


def _inode(pid: int) -> int:
    """The inode of its directory; 0 if there is none any more, which is no process's."""
    try:
        return os.stat(f"{_PROC}/{pid}").st_ino
    except OSError:
        return 0


def newest_pid() -> int | None:
    """The number that was given out last; None where the platform does not tell. It falls when numbers begin again."""
    try:
        with open(f"{_PROC}/loadavg", "rb", buffering=0) as file:
            return int(file.read().split()[-1])
    except (OSError, ValueError, IndexError):
        return None


def every_process(
    *, skip: Collection[int] = (), known: Collection[tuple[int, int]] = frozenset()
) -> Iterator[ProcessInfo]:
    """Yield all processes that this one may see, including zombies, except those with the numbers in ``skip`` and those
    that an earlier ``known_processes`` returned.

    The newest come first: one that forks and leaves again and again is still there when it is looked at.
    """
    for number in reversed(every_pid()):
        if number in skip or (known and (number, _inode(number)) in known):
            continue  # looking at one costs far more
        process = look_up(number)
        if process is not None:
            yield process


def look_up(pid: int) -> ProcessInfo | None:
    """What is known of ``pid`` now; None if there is no such process."""
    if not _HAS_PROC:
        return _look_up_with_psutil(pid)
    text = _read(pid, "stat").decode(errors="replace")
    # The name may hold spaces and parentheses; it ends at the last one.
    head, closing, tail = text.rpartition(")")
    fields = tail.split()
    if not closing or len(fields) < 20:
        return None
    # A first thread that has ended before the others is shown as a zombie: the process lives.
    state = "S" if fields[0] == "Z" and int(fields[17]) > 1 else fields[0]
    return ProcessInfo(
        pid=pid,
        started=int(fields[19]),
        name=head.partition("(")[2],
        state=state,
        ppid=int(fields[1]),
        pgid=int(fields[2]),
        sid=int(fields[3]),
    )


def runs_as_us(pid: int) -> bool:
    """Whether a process has this user as its real, effective, saved and file system user. Where the kernel does not
    say so, it has not: another user can lower a limit, choose a command line, or hide who it is from stat(2)."""
    users = read_status(pid).get("Uid", "").split()
    return bool(users) and {*map(int, users)} == {os.geteuid()}


def is_alive(pid: int, started: float) -> bool:
    """Whether the very process that was ``pid`` and started at ``started`` still runs."""
    process = look_up(pid)
    return process is not None and process.alive and process.started == started


def is_exiting(pid: int, *, foreign: bool | None = None) -> bool:
    """Whether the kernel is taking the process down: it has ended, and is not a zombie yet. False where it does not
    say.

    A process lives on after its first thread has called pthread_exit(3). If the process itself exits, the kernel has
    sent SIGKILL to each thread that has not begun to.

    Args:
        pid: the process.
        foreign: what ``is_proc_foreign`` has said, for callers that look at many; by default it is asked.
    """
    if is_proc_foreign() if foreign is None else foreign:
        return False
    return bool(_flags(pid) & _PF_EXITING) and not any(_goes_on(pid, thread) for thread in _threads(pid))


def was_executed(pid: int) -> bool:
    """Whether a process runs what it executed itself: a forked one shows the command line of the process that it was
    forked from. True where the kernel does not say."""
    return is_proc_foreign() or not _flags(pid) & _PF_FORKNOEXEC


def _goes_on(pid: int, thread: str) -> bool:
    """Whether a thread has neither begun to exit nor a SIGKILL to do so."""
    if _flags(pid, f"task/{thread}/stat") & _PF_EXITING:
        return False
    pending = signal_mask(read_status(pid, thread=thread), "SigPnd", "ShdPnd")
    return pending is not None and not pending & _SIGKILL_BIT


def _threads(pid: int) -> list[str]:
    """The numbers of its threads; none if it is gone."""
    try:
        return os.listdir(f"{_PROC}/{pid}/task")
    except OSError:
        return []


def group_members(group: int) -> tuple[int, ...]:
    """Return the processes of a process group that have not ended."""
    return tuple(sorted(each.pid for each in every_process() if each.pgid == group and each.alive))


def is_dying(pid: int) -> bool:
    """Whether a process is being taken down, or a signal waits for it that it does not hold back: it has not had its
    turn yet to die of it. False where that is not told."""
    fields = read_status(pid)
    pending, blocked = signal_mask(fields, "SigPnd", "ShdPnd") or 0, signal_mask(fields, "SigBlk") or 0
    return is_exiting(pid) or bool(pending & ~blocked)


def command_line(process: ProcessInfo) -> str:
    """Its command line; its name in brackets if it has none (a kernel thread, a zombie) or may not be read."""
    if _HAS_PROC:
        words = _read_after_exec(process.pid, "cmdline").rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    else:
        import psutil

        try:
            words = " ".join(psutil.Process(process.pid).cmdline())
        except (psutil.Error, OSError):
            words = ""
    return words or f"[{process.name}]"


def environment(pid: int) -> bytes:
    """The environment that a process was executed with, as ``NAME=value`` strings with NULs between them; empty if it
    may not be read."""
    if _HAS_PROC:
        return _read_after_exec(pid, "environ")
    import psutil

    try:
        pairs = psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return b""
    return b"\0".join(os.fsencode(f"{name}={value}") for name, value in pairs.items())


def _read_after_exec(pid: int, name: str) -> bytes:
    """``cmdline`` or ``environ``: in the middle of its exec(2) a process has neither, and that moment is waited for."""
    pause = threading.Event()
    for _ in range(_EXEC_LOOKS):
        found = _read(pid, name)
        if found:
            return found
        if not _is_executing(pid):
            break
        pause.wait(_EXEC_PAUSE)
    return _read(pid, name)  # it may have come to the end of its exec between the two looks


def is_stopped(pid: int) -> bool:
    """Whether every thread of a process is stopped by a signal, or the process has ended."""
    states = [_read(pid, f"task/{thread}/stat").rpartition(b")")[2].split()[:1] for thread in _threads(pid)]
    return all(not state or state[0] in (b"T", b"Z", b"X") for state in states)


def _is_executing(pid: int) -> bool:
    flags = 0 if is_proc_foreign() else _flags(pid)
    return bool(flags) and not flags & (_PF_EXITING | _PF_KTHREAD) and not _read(pid, "cmdline")


def _flags(pid: int, name: str = "stat") -> int:
    """Its flags in the kernel, if this /proc is ours; 0 if there is no such process, or it is not told."""
    try:
        fd = os.open(f"{_PROC}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fields = os.read(fd, 4096).rpartition(b")")[2].split(maxsplit=7)
    except OSError:
        return 0
    finally:
        os.close(fd)
    return int(fields[6]) if len(fields) > 6 else 0


def _read(pid: int, name: str) -> bytes:
    """A file of /proc/<pid>; empty if the process is gone or not ours to look into."""
    try:
        with open(f"{_PROC}/{pid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def _look_up_with_psutil(pid: int) -> ProcessInfo | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return ProcessInfo(
                pid=pid,
                started=process.create_time(),
                name=process.name(),
                state="Z" if process.status() == psutil.STATUS_ZOMBIE else "?",
                ppid=process.ppid(),
                pgid=os.getpgid(pid),
                sid=os.getsid(pid),
            )
    except (psutil.Error, OSError):
        return None
