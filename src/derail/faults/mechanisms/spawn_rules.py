"""Rules about the processes that a launcher starts: counted as it makes them, by whatever system call."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derail.faults.mechanisms.syscall_rules import Rule, status_number
from derail.platform.processes import every_process

if TYPE_CHECKING:
    from derail.faults.model.results import Result
    from derail.platform.seccomp import Call

MAKES_PROCESSES = "fork,vfork,clone,clone3"
MAKES_PIPES = "pipe,pipe2,socketpair"
"""What whoever starts a process makes before, to hear whether its exec went well, or to read its output."""
EXECUTES = "execve,execveat"
WRITES = "write,pwrite64,writev,pwritev,pwritev2"
CLONE_THREAD = 0x10000
SHELLS = frozenset({"ash", "bash", "busybox", "dash", "fish", "ksh", "mksh", "sh", "zsh"})
"""Programs that make processes of their own before they start a launcher, or become one (wrappers, pyenv's shims)."""


@dataclass(slots=True)
class FirstShows(Rule):
    """A rule that has done what it is to do as soon as one call was answered, however many may follow."""

    def shown(self) -> Result | None:
        """What is known once the first call was answered."""
        return self._happened() if self.answered else None


@dataclass(slots=True)
class _Making(FirstShows):
    """A rule that begins when the launcher has made a number of processes. Threads are none.

    Those that a program made before it became another one by exec do not count: it was a wrapper of the launcher. Of a
    shell, which may still become the launcher, only those count that live.

    Attributes:
        before: how many processes.
        made: how many the launcher has made.
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
        """Forget what a program did that has become another one."""
        self.made = 0


@dataclass(slots=True)
class MakingRule(_Making):
    """One process cannot be made, also not by the other calls that are tried then (fork where vfork failed). Who tries
    the same call once more gets it.

    Attributes:
        failed: the calls that were tried for that process.
    """

    failed: list[int] = field(default_factory=list)

    def _begin_again(self) -> None:
        self.made = 0
        self.failed.clear()

    def count(self, call: Call) -> int:
        """Count the attempts for that one process; those before and behind it have no number."""
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
    """The launcher gets no pipe when it is about to make a process."""

    def count(self, call: Call) -> int:
        """Count processes without a number, and pipes behind enough of them."""
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
    """The program of the n-th process that the launcher has made is not there, wherever it is looked for.

    Attributes:
        child: which process, counted by their first attempts.
        children: those that were seen so far.
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
    """Whether a call that makes a process makes only a thread: the flags of ``clone``, or of clone3's structure."""
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
        return True  # most of its calls are for threads


def _program(pid: int) -> tuple[str, str] | None:
    """The file that a process runs, and where the kernel has put its arguments, which each exec changes."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return os.readlink(f"/proc/{pid}/exe"), file.read().rpartition(b")")[2].split()[45].decode()
    except (OSError, IndexError):
        return None


def _living_children(pid: int) -> int:
    """How many children of a process live. (``/proc/PID/task/TID/children`` is not on every kernel.)"""
    return sum(process.ppid == pid and process.alive for process in every_process())
