"""The ranks of a rehearsal: tiny programs that do what they are told, so that all that happens to a job is known.

A rank reads orders from a FIFO of its own and answers in one that all share. It ends when it is told to, by a signal,
or when whoever gives the orders is gone.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.exits import open_exit_fd, wait_readable
from derail.platform.groups import signal_process

if TYPE_CHECKING:
    from derail.platform.exits import ExitFd

Answer: TypeAlias = Literal["dies", "ignores", "leaves"]
"""What a rank does when it gets SIGTERM: what any program does; nothing; or exit with code 0."""

SHELL = "/bin/sh"
_SCRIPT = """
ulimit -c 0
exec 3<"$1"
echo "$3 here $$" >"$2"
while read -r word code <&3; do
  case $word in
    leave) exit "$code" ;;
    ignores) trap '' TERM; echo "$3 armed 0" >"$2" ;;
    leaves) trap 'exit 0' TERM; echo "$3 armed 0" >"$2" ;;
    helper) sleep 3600 3<&- >/dev/null 2>&1 & echo "$3 helper $!" >"$2" ;;
  esac
done
exit 111
"""


class CrewError(RuntimeError):
    """A rank did not do what it was told, for reasons that are not known: it never came up, or was ended before."""


def obey(orders: str, reports: str, rank: int) -> None:
    """What the shell script does, as a function. It never returns."""
    import faulthandler
    import resource
    import subprocess

    def report(what: str, number: int) -> None:
        with open(reports, "wb", buffering=0) as file:
            file.write(f"{rank} {what} {number}\n".encode())

    faulthandler.disable()  # it is meant to die, and quietly
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(orders) as given:
        report("here", os.getpid())
        for order in given:
            match order.split():
                case ["leave", code]:
                    os._exit(int(code))
                case ["ignores"]:
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    report("armed", 0)
                case ["leaves"]:
                    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
                    report("armed", 0)
                case ["helper"]:
                    nothing = subprocess.DEVNULL
                    helper = subprocess.Popen(["sleep", "3600"], stdin=nothing, stdout=nothing, stderr=nothing)
                    report("helper", helper.pid)
    os._exit(111)


@dataclass(slots=True)
class _Member:
    """One rank, or what it has started."""

    name: str
    pid: int
    end: ExitFd

    def gone(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, now or within so many seconds."""
        return wait_readable(self.end, seconds)

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if not self.gone():
            signal_process(self.pid, self.end.pidfd, number)


@dataclass(slots=True)
class Crew:
    """The ranks of one job. ``open`` it, have ``argv(rank)`` started for each rank, and ``muster`` them.

    Attributes:
        ranks: how many.
        attempt: how often the job has been started before.
        patience: seconds that a rank gets to do what it is told.
    """

    ranks: int
    attempt: int = 0
    patience: float = 30.0
    _directory: Path | None = None
    _orders: list[int] = field(default_factory=list)
    _reports: int = -1
    _heard: bytes = b""
    _members: dict[int, _Member] = field(default_factory=dict)
    _helpers: list[_Member] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        """A directory of this crew alone; the launcher may write its logs there."""
        assert self._directory is not None, "open the crew first"
        return self._directory

    def open(self) -> None:
        """Make the ways by which orders go out and reports come in."""
        self._directory = Path(tempfile.mkdtemp(prefix="derail-crew-"))
        for name in ("reports", *map(str, range(self.ranks))):
            os.mkfifo(self._directory / name)
        # For reading and writing: so neither end waits for the other, and a rank that is alone reads the end.
        both = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        self._reports = os.open(self._directory / "reports", both)
        self._orders = [os.open(self._directory / str(rank), both) for rank in range(self.ranks)]

    def argv(self, rank: int) -> tuple[str, ...]:
        """The program of a rank."""
        return (SHELL, "-c", _SCRIPT, SHELL, *map(str, self.call(rank)))

    def call(self, rank: int) -> tuple[str, str, int]:
        """What ``obey`` is called with in a rank that is a function and no program."""
        return (str(self.directory / str(rank)), str(self.directory / "reports"), rank)

    def env(self, rank: int) -> dict[str, str]:
        """What torchrun would tell the rank of itself, as far as a rank of this kind cares."""
        return {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.ranks),
            "TORCHELASTIC_RESTART_COUNT": str(self.attempt),
        }

    def muster(self) -> None:
        """Wait until all ranks are there.

        Raises:
            CrewError: if one does not come.
        """
        while len(self._members) < self.ranks:
            rank, _, pid = self._hear("here")
            self._members[rank] = _Member(f"rank {rank}", pid, open_exit_fd(pid))

    def arm(self, rank: int, answer: Answer) -> None:
        """Have a rank answer SIGTERM in another way from now on.

        Raises:
            CrewError: if it does not say that it will.
        """
        self._order(rank, answer)
        self._hear("armed")

    def beget(self, rank: int) -> None:
        """Have a rank start a helper in its process group, which stays when the rank goes.

        Raises:
            CrewError: if it does not tell of one.
        """
        self._order(rank, "helper")
        _, _, pid = self._hear("helper")
        self._helpers.append(_Member(f"helper of rank {rank}", pid, open_exit_fd(pid)))

    def leave(self, rank: int, code: int) -> None:
        """Have a rank exit with a code; it need not be there any more."""
        self._order(rank, f"leave {code}")

    def signal(self, rank: int, number: int) -> None:
        """Send a signal to a rank, as a stranger would; it need not be there any more."""
        self._members[rank].signal(number)

    def await_end(self, rank: int) -> None:
        """Wait until the kernel says that a rank has ended.

        Raises:
            CrewError: if it does not.
        """
        if not self._members[rank].gone(self.patience):
            raise CrewError(f"rank {rank} was told to end and did not within {self.patience:g} s")

    def left(self) -> list[str]:
        """Who of the ranks is still there."""
        return [f"{member.name} (pid {member.pid})" for member in self._members.values() if not member.gone()]

    def helpers_left(self) -> list[str]:
        """Who of the helpers is still there."""
        return [f"{member.name} (pid {member.pid})" for member in self._helpers if not member.gone()]

    def end_all(self) -> None:
        """SIGKILL whoever is still there; from any thread."""
        for member in [*self._members.values(), *self._helpers]:
            member.signal(signal.SIGKILL)

    def close(self) -> None:
        """End whoever is still there, and remove all traces. Idempotent."""
        self.end_all()
        for member in [*self._members.values(), *self._helpers]:
            member.gone(self.patience)
            member.end.close()
        self._members.clear()
        self._helpers.clear()
        for fd in [*self._orders, *([self._reports] if self._reports >= 0 else [])]:
            os.close(fd)
        self._orders, self._reports = [], -1
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _order(self, rank: int, words: str) -> None:
        os.write(self._orders[rank], f"{words}\n".encode())

    def _hear(self, about: str) -> tuple[int, str, int]:
        """The next report, which must be about this."""
        deadline = SYSTEM_CLOCK.now() + self.patience
        poll = select.poll()
        poll.register(self._reports, select.POLLIN)
        while b"\n" not in self._heard:
            left = deadline - SYSTEM_CLOCK.now()
            if left <= 0 or not poll.poll(left * 1000):
                there = sorted(self._members)
                raise CrewError(f"no rank has said {about!r} within {self.patience:g} s; there are ranks {there}")
            self._heard += os.read(self._reports, 4096)
        line, _, self._heard = self._heard.partition(b"\n")
        rank, what, number = line.decode().split()
        if what != about:
            raise CrewError(f"rank {rank} said {what!r} where {about!r} was to come")
        return int(rank), what, int(number)
