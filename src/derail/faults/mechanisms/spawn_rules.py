"""Rules about the processes that a launcher starts, counted at their creation by any system call."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derail.faults.mechanisms.syscall_rules import Rule
from derail.platform.proc_status import status_number
from derail.platform.processes import every_process

if TYPE_CHECKING:
    from derail.faults.model.results import Result
    from derail.platform.seccomp import Call

MAKES_PROCESSES = "fork,vfork,clone,clone3"
MAKES_PIPES = "pipe,pipe2,socketpair"
"""Calls that make the pipes of a new process, for the error of its exec or for its output."""
EXECUTES = "execve,execveat"
WRITES = "write,pwrite64,writev,pwritev,pwritev2"
CLONE_THREAD = 0x10000
SHELLS = frozenset({"ash", "bash", "busybox", "dash", "fish", "ksh", "mksh", "sh", "zsh"})
"""Shells: they start helper processes before they start or exec a launcher (wrapper scripts, pyenv's shims)."""


@dataclass(slots=True)
class FirstShows(Rule):
    """Rule that is fulfilled by its first answered call, however many follow."""

    def shown(self) -> Result | None:
        """Return the result once the first call was answered."""
        return self._happened() if self.answered else None


@dataclass(slots=True)
class _Making(FirstShows):
    """Rule that begins after the launcher has made a number of processes, not counting threads.

    Processes that a program made before its exec do not count: it was a wrapper of the launcher. A shell may still exec
    the launcher, so only its living children count.

    Attributes:
        before: the number of processes before the rule begins.
        made: the number that the launcher has made.
        program: identifies one exec of the launcher among others.
    """

    before: int = 0
    made: int = 0
    program: tuple[str, str] | None = None

    def _makes_process(self, call: Call) -> bool:
        name = self.names[call.number]
        return name in MAKES_PROCESSES.split(",") and not makes_thread(call, name)

    def _counts(self, call: Call) -> bool:
        if not (self.active and call.number in self.names and status_number(call.tid, "Tgid") == self.pid):
            return False
        if (program := _program(self.pid)) != self.program:
            self.program = program
            self._begin_again()
        if program is not None and os.path.basename(program[0]) in SHELLS:
            self.made = _living_children(self.pid)
        return True

    def _begin_again(self) -> None:
        """Reset the count after an exec."""
        self.made = 0


@dataclass(slots=True)
class MakingRule(_Making):
    """Rule that one process cannot be made, also not by the fallback calls (fork where vfork failed).

    A second attempt with the same call succeeds.

    Attributes:
        failed: the calls that failed for that process.
    """

    failed: list[int] = field(default_factory=list)

    def _begin_again(self) -> None:
        self.made = 0
        self.failed.clear()

    def count(self, call: Call) -> int:
        """Count the attempts for the affected process, and return the number; 0 for those before and after it."""
        if not self._counts(call) or not self._makes_process(call):
            return 0
        if self.made == self.before and call.number not in self.failed:
            self.failed.append(call.number)
            self.seen += 1
            return self.seen
        self.made += 1
        return 0


@dataclass(slots=True)
class PipeRule(_Making):
    """Rule that the launcher gets no pipe when it is about to make a process."""

    def count(self, call: Call) -> int:
        """Count processes, and number the pipes that follow the last process to succeed; 0 for other calls."""
        if not self._counts(call):
            return 0
        if self.names[call.number] in MAKES_PROCESSES.split(","):
            self.made += self._makes_process(call)
            return 0
        if self.made < self.before:
            return 0
        self.seen += 1
        return self.seen


@dataclass(slots=True)
class ExecRule(FirstShows):
    """Rule that the program of the launcher's n-th process is missing, wherever it is looked up.

    Attributes:
        child: the number of the process, in the order of first attempts.
        seen_children: the processes seen so far.
    """

    child: int = 1
    seen_children: list[int] = field(default_factory=list)

    def _concerns(self, call: Call) -> bool:
        process = status_number(call.tid, "Tgid")
        if status_number(call.tid, "PPid") != self.pid:
            return False
        if process not in self.seen_children:
            self.seen_children.append(process)
        return self.seen_children.index(process) == self.child - 1


def makes_thread(call: Call, name: str) -> bool:
    """Return whether a call makes only a thread, by the flags of ``clone`` or of clone3's structure."""
    if name == "clone":
        return bool(call.args[0] & CLONE_THREAD)
    if name != "clone3":
        return False
    try:
        fd = os.open(f"/proc/{call.tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return bool(int.from_bytes(os.pread(fd, 8, call.args[0]), "little") & CLONE_THREAD)
        finally:
            os.close(fd)
    except (OSError, OverflowError):
        return True  # most clone3 calls make threads


def _program(pid: int) -> tuple[str, str] | None:
    """Return the executable of a process and the address of its arguments, which each exec changes."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return os.readlink(f"/proc/{pid}/exe"), file.read().rpartition(b")")[2].split()[45].decode()
    except (OSError, IndexError):
        return None


def _living_children(pid: int) -> int:
    """Return the number of living children; not every kernel has ``/proc/PID/task/TID/children``."""
    return sum(process.ppid == pid and process.alive for process in every_process())
