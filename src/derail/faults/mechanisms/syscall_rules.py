"""Which system calls of a rank are to end otherwise, and what came of it: rules, counted call by call. No threads here.

All methods are called with the lock of the watch held that the rule belongs to.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derail.faults.model.results import Injected, NotReached
from derail.platform.proc_status import read_status
from derail.platform.syscalls import fd_argument, path_argument

if TYPE_CHECKING:
    from derail.faults.model.occurrences import Hits
    from derail.faults.model.results import Result
    from derail.model.exit import ExitStatus
    from derail.platform.seccomp import Call

PATH_MAX = 4096


@dataclass(slots=True)
class Rule:
    """One fault on the system calls of one rank.

    Attributes:
        id: of the fault.
        word: the names of the calls, as the plan has them.
        names: the same by number, as far as this machine has them; counted together.
        pid: the rank.
        calls: which of them end otherwise.
        errno: what they fail with; 0 for none.
        error: its name.
        delay: seconds for which they are held.
        fd: only calls on this descriptor count; None for all.
        path: only calls on a file whose path has this in it count; empty for all.
        children: whether calls of processes that the rank started count as well.
        active: whether calls are counted already.
        seen: how many calls were counted.
        answered: which of them ended otherwise.
        cut: which of them were held until their caller died, and for how long.
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
        """Count a call, and say which it is; 0 if it is none that counts."""
        if not self.active or call.number not in self.names or not self._concerns(call):
            return 0
        self.seen += 1
        return self.seen

    def shown(self) -> Result | None:
        """What is known for certain already: that all calls that were meant have ended otherwise."""
        return self._happened() if len(self.answered) == self.calls.count else None

    def at_exit(self, status: ExitStatus) -> Result:
        """What the end of the rank makes of it."""
        if self.answered or self.cut:
            return self._happened()
        only = "".join((
            "" if self.fd is None else f" on descriptor {self.fd}",
            f" on a path with {self.path!r}" if self.path else "",
        ))  # fmt: skip
        why = f" (paths could not be read: {self._unread})" if self._unread else ""
        times = "once" if self.seen == 1 else f"{self.seen} times" if self.seen else "never"
        meant = f"call {self.calls.first} was meant"
        return NotReached(f"{self.word} was {times} called{only}, {meant}{why}; the rank ended with {status}")

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
            return "" if where is None else _read_string(call.tid, call.args[where])
        except (OSError, OverflowError) as error:
            self._unread = str(error)
            return ""


def status_number(tid: int, field: str) -> int:
    """Return a number from the status of a thread, as the process that it belongs to ("Tgid"); 0 if it is gone."""
    return int(read_status(tid).get(field) or 0)


def _read_string(tid: int, address: int) -> str:
    """A string in the memory of a thread that waits for us, page by page: what lies behind it may not be readable."""
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
