"""Ranks of a rehearsal: tiny programs that obey orders, so that every event of a job is known.

A rank reads orders from its own FIFO and reports on a shared one. It ends at an order, by a signal, or when the process
that gives the orders has exited.
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
"""Reaction of a rank to SIGTERM: the default one; none; or exit with code 0."""

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


class ScriptedRankError(RuntimeError):
    """Error of a rank that did not obey, for an unknown reason: it never started, or was ended before."""


def obey(orders: str, reports: str, rank: int) -> None:
    """Do the same as the shell script, as a function; never return."""
    import faulthandler
    import resource
    import subprocess

    def report(event: str, number: int) -> None:
        with open(reports, "wb", buffering=0) as file:
            file.write(f"{rank} {event} {number}\n".encode())

    faulthandler.disable()  # the rank is meant to die, without output
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
    """One rank, or a helper that it has started."""

    name: str
    pid: int
    end: ExitFd

    def gone(self, seconds: float = 0.0) -> bool:
        """Return whether the process has ended, now or within ``seconds``."""
        return wait_readable(self.end, seconds)

    def signal(self, number: int) -> None:
        """Send a signal, if the process still exists."""
        if not self.gone():
            signal_process(self.pid, self.end.pidfd, number)


@dataclass(slots=True)
class ScriptedRanks:
    """Ranks of one job. ``open`` it, start ``argv(rank)`` for each rank, and ``wait_started`` them.

    Attributes:
        ranks: the number of ranks.
        attempt: the number of earlier starts of the job.
        patience: seconds for a rank to obey an order.
    """

    ranks: int
    attempt: int = 0
    patience: float = 30.0
    _directory: Path | None = None
    _orders: list[int] = field(default_factory=list)
    _reports: int = -1
    _received: bytes = b""
    _members: dict[int, _Member] = field(default_factory=dict)
    _helpers: list[_Member] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        """Directory of these ranks only; the launcher may write its logs there."""
        assert self._directory is not None, "ScriptedRanks: call open() first"
        return self._directory

    def open(self) -> None:
        """Create the FIFOs for orders and reports."""
        self._directory = Path(tempfile.mkdtemp(prefix="derail-scripted-"))
        for name in ("reports", *map(str, range(self.ranks))):
            os.mkfifo(self._directory / name)
        # Open for reading and writing: neither end waits for the other, and a rank reads the end when derail exits.
        both = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        self._reports = os.open(self._directory / "reports", both)
        self._orders = [os.open(self._directory / str(rank), both) for rank in range(self.ranks)]

    def argv(self, rank: int) -> tuple[str, ...]:
        """Return the command line of a rank."""
        return (SHELL, "-c", _SCRIPT, SHELL, *map(str, self.call(rank)))

    def call(self, rank: int) -> tuple[str, str, int]:
        """Return the arguments of ``obey`` in a rank that is a function."""
        return (str(self.directory / str(rank)), str(self.directory / "reports"), rank)

    def env(self, rank: int) -> dict[str, str]:
        """Return torchrun's variables for the rank, as far as a rank of this kind needs them."""
        return {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.ranks),
            "TORCHELASTIC_RESTART_COUNT": str(self.attempt),
        }

    def wait_started(self) -> None:
        """Wait until all ranks have reported their start.

        Raises:
            ScriptedRankError: if one does not report.
        """
        while len(self._members) < self.ranks:
            rank, _, pid = self._hear("here")
            self._members[rank] = _Member(f"rank {rank}", pid, open_exit_fd(pid))

    def arm(self, rank: int, answer: Answer) -> None:
        """Change a rank's reaction to SIGTERM.

        Raises:
            ScriptedRankError: if the rank does not confirm it.
        """
        self._order(rank, answer)
        self._hear("armed")

    def start_helper(self, rank: int) -> None:
        """Make a rank start a helper in its process group, which outlives the rank.

        Raises:
            ScriptedRankError: if the rank does not report one.
        """
        self._order(rank, "helper")
        _, _, pid = self._hear("helper")
        self._helpers.append(_Member(f"helper of rank {rank}", pid, open_exit_fd(pid)))

    def leave(self, rank: int, code: int) -> None:
        """Order a rank to exit with a code; it may have ended already."""
        self._order(rank, f"leave {code}")

    def signal(self, rank: int, number: int) -> None:
        """Send a signal to a rank, as an unrelated process would; it may have ended already."""
        self._members[rank].signal(number)

    def await_end(self, rank: int) -> None:
        """Wait until the kernel reports the end of a rank.

        Raises:
            ScriptedRankError: if it does not.
        """
        if not self._members[rank].gone(self.patience):
            raise ScriptedRankError(f"rank {rank} was ordered to end, and did not within {self.patience:g} s")

    def left(self) -> list[str]:
        """Return the ranks that still exist."""
        return [f"{member.name} (pid {member.pid})" for member in self._members.values() if not member.gone()]

    def helpers_left(self) -> list[str]:
        """Return the helpers that still exist."""
        return [f"{member.name} (pid {member.pid})" for member in self._helpers if not member.gone()]

    def end_all(self) -> None:
        """Send SIGKILL to all existing processes; from any thread."""
        for member in [*self._members.values(), *self._helpers]:
            member.signal(signal.SIGKILL)

    def close(self) -> None:
        """End all existing processes, and remove the directory. Idempotent."""
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
        """Return the next report, which must have the event ``about``."""
        deadline = SYSTEM_CLOCK.now() + self.patience
        poll = select.poll()
        poll.register(self._reports, select.POLLIN)
        while b"\n" not in self._received:
            left = deadline - SYSTEM_CLOCK.now()
            if left <= 0 or not poll.poll(left * 1000):
                present = sorted(self._members)
                raise ScriptedRankError(
                    f"no rank reported {about!r} within {self.patience:g} s; ranks so far: {present}"
                )
            self._received += os.read(self._reports, 4096)
        line, _, self._received = self._received.partition(b"\n")
        rank, event, number = line.decode().split()
        if event != about:
            raise ScriptedRankError(f"rank {rank}: expected the report {about!r}, got {event!r}")
        return int(rank), event, int(number)
