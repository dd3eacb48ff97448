"""Rules that change the result of a rank's system calls, and their results, counted call by call. No threads here.

All methods need the lock of the watch that owns the rule.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derail.faults.model.results import Injected, NotReached
from derail.platform.proc_status import status_number
from derail.platform.syscalls import fd_argument, path_argument

if TYPE_CHECKING:
    from derail.faults.model.occurrences import Hits
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.platform.seccomp import Call

PATH_MAX = 4096


@dataclass(slots=True)
class Rule:
    """Fault on the system calls of one rank.

    Attributes:
        id: the id of the fault.
        word: the names of the calls as in the plan.
        names: the same names by number, if this machine has them; they share one count.
        pid: the pid of the rank.
        calls: the occurrences to change.
        errno: the error number of the failure; 0 for none.
        error: the name of that error.
        delay: seconds to hold each call.
        fd: the only descriptor that counts; None for all.
        path: the text that a path must contain to count; empty for all.
        children: whether calls of the rank's child processes count as well.
        active: whether counting has started.
        seen: the number of calls counted.
        answered: the numbers of the calls that were changed.
        cut: the numbers of the calls that were held until their caller died, and the seconds held.
    """

    id: str
    word: str
    names: dict[int, str]
    pid: int
    calls: Hits
    errno: int = 0
    error: str = ""
    delay: float = 0.0
    fd: int | None = None
    path: str = ""
    children: bool = False
    active: bool = False
    seen: int = 0
    answered: list[int] = field(default_factory=list)
    cut: list[tuple[int, float]] = field(default_factory=list)
    _unread: str = ""

    def count(self, call: Call) -> int:
        """Count a call and return its number; 0 if it does not count."""
        if not self.active or call.number not in self.names or not self._concerns(call):
            return 0
        self.seen += 1
        return self.seen

    def shown(self) -> Result | None:
        """Return the result if it is certain already: all requested calls have been changed."""
        return self._happened() if len(self.answered) == self.calls.count else None

    def at_exit(self, status: ExitStatus) -> Result:
        """Return the result after the exit of the rank."""
        if self.answered or self.cut:
            return self._happened()
        only = "".join((
            "" if self.fd is None else f" on descriptor {self.fd}",
            f" on a path with {self.path!r}" if self.path else "",
        ))  # fmt: skip
        why = f" (unreadable paths: {self._unread})" if self._unread else ""
        times = "called once" if self.seen == 1 else f"called {self.seen} times" if self.seen else "never called"
        expected = f"expected call {self.calls.first}"
        return NotReached(f"{self.word} was {times}{only}, {expected}{why}; the rank ended with {status}")

    def _happened(self) -> Injected:
        told = []
        if self.answered:
            many = len(self.answered) > 1
            which = f"calls {_listed(self.answered)}" if many else f"call {self.answered[0]}"
            held = f"held for {self.delay:g} s" + ("" if self.errno else " and then made") if self.delay else ""
            ended = f"answered with {self.error} ({self.errno})" if self.errno else ""
            told.append(f"{which} of {self.word} {' and '.join(filter(None, (held, ended)))}")
        told += [f"call {n} of {self.word} held for {held:.2f} s, until its caller died" for n, held in self.cut]
        meant = f", of {self.calls}" if len(self.answered) != self.calls.count else ""
        return Injected(f"{'; '.join(told)}{meant} (pid {self.pid}, {self.seen} calls seen)")

    def _concerns(self, call: Call) -> bool:
        if not self.children and status_number(call.tid, "Tgid") != self.pid:
            return False
        name = self.names[call.number]
        where = fd_argument(name)
        fd = None if where is None else call.args[where] & 0xFFFFFFFF
        if self.fd is not None and fd != self.fd:
            return False
        return not self.path or self.path in self._path(call, name, fd)

    def _path(self, call: Call, name: str, fd: int | None) -> str:
        try:
            if fd is not None:
                return os.readlink(f"/proc/{call.tid}/fd/{fd}")
            where = path_argument(name)
            return "" if where is None else read_string(call.tid, call.args[where])
        except (OSError, OverflowError) as error:
            self._unread = str(error)
            return ""


def read_string(tid: int, address: int) -> str:
    """Return a string from the memory of a waiting thread, page by page: memory after it may be unreadable."""
    found = b""
    fd = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while b"\0" not in found and len(found) < PATH_MAX:
            part = os.pread(fd, 4096 - (address + len(found)) % 4096, address + len(found))
            if not part:
                break
            found += part
    finally:
        os.close(fd)
    return os.fsdecode(found.partition(b"\0")[0])


def _listed(numbers: list[int]) -> str:
    shown = [str(number) for number in numbers]
    return ", ".join(shown if len(shown) < 8 else [*shown[:4], "...", *shown[-2:]])
