"""The process table: read from /proc where it exists, else through psutil."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from derail.platform.proc_status import read_status, signal_mask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_PROC = "/proc"
_PF_EXITING, _PF_FORKNOEXEC, _PF_KTHREAD = 0x4, 0x40, 0x200000
_SIGKILL_BIT = 1 << 8
_EXEC_LOOKS, _EXEC_PAUSE = 100, 0.001
_HAS_PROC = os.path.exists("/proc/self/stat") or sys.platform == "linux"
"""Whether /proc is used. On Linux psutil has no other source: a hidden /proc gives no results."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process, as it was a moment ago.

    Attributes:
        pid: its pid, which may be reused later.
        started: its start time, in the platform's own unit; together with ``pid`` it identifies the process.
        name: its short name in the kernel.
        state: the letter of proc(5): R, S, D, T, t, Z ...; "?" for a live process of unknown state.
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
    """Return whether /proc belongs to another PID namespace (``unshare --pid`` without ``--mount-proc``).

    Its numbers mean other processes here.
    """
    try:
        return os.readlink(f"{_PROC}/self") != str(os.getpid())
    except OSError:
        return _HAS_PROC


def every_pid() -> list[int]:
    """Return the pids of all processes that this one can see, including zombies."""
    if _HAS_PROC:
        try:
            return [] if is_proc_foreign() else [int(name) for name in os.listdir(_PROC) if name.isdigit()]
        except OSError:
            return []
    import psutil

    return psutil.pids()


def known_processes() -> frozenset[tuple[int, int]]:
    """Return an identity for each existing process: its pid, and the inode of its directory in /proc.

    The kernel gives another inode to the directory of the next process with that pid, so PID reuse is always detected.
    Empty where there is no /proc.
    """
    return frozenset((number, _inode(number)) for number in every_pid()) if _HAS_PROC else frozenset()


def _inode(pid: int) -> int:
    """Return the inode of the process's directory; 0, which is no process's, if there is none any more."""
    try:
        return os.stat(f"{_PROC}/{pid}").st_ino
    except OSError:
        return 0


def newest_pid() -> int | None:
    """Return the last assigned pid; None where the platform does not report it. It falls when pids wrap around."""
    try:
        with open(f"{_PROC}/loadavg", "rb", buffering=0) as file:
            return int(file.read().split()[-1])
    except (OSError, ValueError, IndexError):
        return None


def every_process(
    *, skip: Collection[int] = (), known: Collection[tuple[int, int]] = frozenset()
) -> Iterator[ProcessInfo]:
    """Yield all processes that this one can see, including zombies.

    Except those with the pids in ``skip`` and those that an earlier ``known_processes`` returned. The newest come
    first: a process that forks and exits again and again still exists when it is read. Numbers above the last one that
    was assigned are the oldest: they are from before pids wrapped around.
    """
    newest = newest_pid() or 0
    for number in sorted(every_pid(), key=lambda pid: (pid <= newest, pid), reverse=True):
        if number in skip or (known and (number, _inode(number)) in known):
            continue  # reading one costs far more
        process = look_up(number)
        if process is not None:
            yield process


def look_up(pid: int) -> ProcessInfo | None:
    """Return the information about ``pid`` now; None if there is no such process."""
    if not _HAS_PROC:
        return _look_up_with_psutil(pid)
    text = _read(pid, "stat").decode(errors="replace")
    # The name may contain spaces and parentheses; it ends at the last one.
    head, closing, tail = text.rpartition(")")
    fields = tail.split()
    if not closing or len(fields) < 20:
        return None
    # A main thread that has ended before the others is shown as a zombie: the process lives.
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
    """Return whether a process has this user as its real, effective, saved and file system user.

    False where the kernel does not report that: another user can lower a limit, choose a command line, or hide its
    identity from stat(2).
    """
    users = read_status(pid).get("Uid", "").split()
    return bool(users) and {*map(int, users)} == {os.geteuid()}


def is_alive(pid: int, started: float) -> bool:
    """Return whether the same process that was ``pid`` and started at ``started`` still runs."""
    process = look_up(pid)
    return process is not None and process.alive and process.started == started


def is_exiting(pid: int, *, foreign: bool | None = None) -> bool:
    """Return whether the kernel is tearing the process down: it has ended, and is not a zombie yet.

    False where the kernel does not report it. A process continues after its main thread has called pthread_exit(3). If
    the process itself exits, the kernel has sent SIGKILL to each thread that has not begun to exit.

    Args:
        pid: the process.
        foreign: result of ``is_proc_foreign``, for callers that check many processes; by default it is called.
    """
    if is_proc_foreign() if foreign is None else foreign:
        return False
    return bool(_flags(pid) & _PF_EXITING) and not any(_continues(pid, thread) for thread in _threads(pid))


def has_open_files(pid: int) -> bool:
    """Return whether a process still has descriptors: its peers cannot know of its end before the kernel takes them.

    An exiting process loses all of them at once, after its memory, and then they are closed (``do_exit`` in Linux).
    False if the process is gone, or for lack of permission.
    """
    try:
        return bool(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def was_executed(pid: int) -> bool:
    """Return whether a process runs what it executed itself: a forked one shows its parent's command line.

    True where the kernel does not report it.
    """
    return is_proc_foreign() or not _flags(pid) & _PF_FORKNOEXEC


def _continues(pid: int, thread: str) -> bool:
    """Return whether a thread has neither begun to exit nor a pending SIGKILL."""
    if _flags(pid, f"task/{thread}/stat") & _PF_EXITING:
        return False
    pending = signal_mask(read_status(pid, thread=thread), "SigPnd", "ShdPnd")
    return pending is not None and not pending & _SIGKILL_BIT


def _threads(pid: int) -> list[str]:
    """Return the ids of the process's threads; none if it is gone."""
    try:
        return os.listdir(f"{_PROC}/{pid}/task")
    except OSError:
        return []


def group_members(group: int) -> tuple[int, ...]:
    """Return the processes of a process group that have not ended."""
    return tuple(sorted(each.pid for each in every_process() if each.pgid == group and each.alive))


def is_dying(pid: int) -> bool:
    """Return whether a process is being torn down, or has an unblocked pending signal and no CPU time yet to die of it.

    False where that is not reported.
    """
    fields = read_status(pid)
    pending, blocked = signal_mask(fields, "SigPnd", "ShdPnd") or 0, signal_mask(fields, "SigBlk") or 0
    return is_exiting(pid) or bool(pending & ~blocked)


def command_line(process: ProcessInfo) -> str:
    """Return the command line; the name in brackets if there is none (a kernel thread, a zombie) or no permission."""
    words = _read_after_exec(process.pid, "cmdline").rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return words or f"[{process.name}]"


def environment(pid: int) -> bytes:
    """Return the environment of a process at its exec: ``NAME=value`` strings separated by NULs, or nothing."""
    return _read_after_exec(pid, "environ")


def _read_after_exec(pid: int, name: Literal["cmdline", "environ"]) -> bytes:
    """Read ``cmdline`` or ``environ``, waiting for the end of an exec(2), during which a process has neither."""
    read, is_executing = (_read, _is_executing) if _HAS_PROC else (_read_with_psutil, _is_executing_with_psutil)
    pause = threading.Event()
    for _ in range(_EXEC_LOOKS):
        content = read(pid, name)
        if content:
            return content
        if not is_executing(pid):
            break
        pause.wait(_EXEC_PAUSE)
    return read(pid, name)  # its exec may have ended between the two reads


def is_stopped(pid: int) -> bool:
    """Return whether every thread of a process is stopped by a signal, or the process has ended."""
    states = [_read(pid, f"task/{thread}/stat").rpartition(b")")[2].split()[:1] for thread in _threads(pid)]
    return all(not state or state[0] in (b"T", b"Z", b"X") for state in states)


def _is_executing(pid: int) -> bool:
    flags = 0 if is_proc_foreign() else _flags(pid)
    return bool(flags) and not flags & (_PF_EXITING | _PF_KTHREAD) and not _read(pid, "cmdline")


def _flags(pid: int, name: str = "stat") -> int:
    """Return the kernel's flags of a process, if this /proc is ours; 0 if there is no such process, or no value."""
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
    """Return a file of /proc/<pid>; empty if the process is gone or not readable for this user."""
    try:
        with open(f"{_PROC}/{pid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def _read_with_psutil(pid: int, name: str) -> bytes:
    """Return what ``/proc/<pid>/<name>`` would contain; empty if the process is gone or not readable for this user."""
    import psutil

    try:
        process = psutil.Process(pid)
        words = process.cmdline() if name == "cmdline" else map("=".join, process.environ().items())
        return b"\0".join(map(os.fsencode, words))
    except (psutil.Error, OSError):
        return b""


def _is_executing_with_psutil(pid: int) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        in_user_space = process.status() != psutil.STATUS_ZOMBIE and process.memory_info().vms > 0
        return in_user_space and not process.cmdline()
    except (psutil.Error, OSError):
        return False


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
