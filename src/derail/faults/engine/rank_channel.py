"""Channel between the driver and the runtimes inside ranks: the journal, and one signal.

A runtime announces itself in the journal, and writes there when it injects. The driver writes a ``tell`` record and
sends the control signal; its handler makes the rank read the journal.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from derail.faults.catalogue.injector_api import control_signal
from derail.faults.engine.journal import Reader
from derail.faults.model.results import NotReached, Unavailable
from derail.model.exit import signal_name
from derail.model.spec import Command
from derail.platform.proc_status import command_line, read_process_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from derail.faults.engine.journal import Journal, Record
    from derail.faults.model.results import Result
    from derail.model.events import JobControl
    from derail.model.exit import ExitStatus
    from derail.model.spec import JobSpec


PAUSES = (0.1, 0.4, 1.5, 5.0)
"""Seconds before each repeated control signal to a rank that does not answer; the last one repeats."""


class RankChannel:
    """The driver's end of the channel."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._reader = Reader(journal.path)
        self._listeners: dict[int, int] = {}
        self._argv: dict[int, tuple[str, ...]] = {}

    def begin(self) -> None:
        """Read only what is written from now on."""
        self._reader.skip()

    def prepared(self, spec: JobSpec) -> None:
        """Record the commands of the ranks in the spec."""
        self._argv = {rank.rank: rank.run.argv for rank in spec.ranks if isinstance(rank.run, Command)}

    def started(self, rank: int, pid: int) -> None:
        """Record the rank's real command line; just after an exec the kernel may show none, then the spec's counts."""
        self._argv[rank] = command_line(pid) or self._argv.get(rank, ())

    def forget(self, rank: int) -> None:
        """Drop the runtime of a restarted rank: the new process has not announced one yet."""
        self._listeners.pop(rank, None)

    def hear(self) -> list[Record]:
        """Return the records that ranks wrote since the last call."""
        heard = [record for record in self._reader.read() if record.get("by") != os.getpid()]
        for record in heard:
            rank, pid = record.get("rank"), record.get("by")
            if record["event"] == "runtime" and isinstance(rank, int) and isinstance(pid, int):
                self._listeners.setdefault(rank, pid)
        return heard

    def listens(self, rank: int) -> bool:
        """Return whether a runtime in this rank has announced itself."""
        return rank in self._listeners

    def tell(self, rank: int, fault: str, control: JobControl, *, hit: int | None) -> Result | None:
        """Notify the rank's runtime that a fault is due, and return the result if that is impossible.

        Raises:
            OSError: if the journal cannot be written; then no signal is sent.
        """
        pid, number = self._listeners[rank], control_signal()
        seen = read_process_state(pid)
        if seen is not None and seen.ended:
            return NotReached(f"the Python process that acts for rank {rank} (pid {pid}) had ended")
        if seen is not None and number not in seen.caught:
            # Without a handler the signal would end the rank: that is its default action.
            why = "it was about to end, or its program removed the handler"
            return NotReached(f"rank {rank} no longer handles the control signal {signal_name(number)}: {why}")
        self._journal.write("tell", fault=fault, rank=rank, to=pid, **({} if hit is None else {"hit": hit}))
        self._wake(rank, control)
        return None

    def wake_again(
        self,
        rank: int,
        control: JobControl,
        *,
        later: Callable[[float, Callable[[], None]], None],
        answered: Callable[[], bool],
        pauses: Sequence[float] = (),
    ) -> None:
        """Repeat the control signal until the rank answers.

        If Python was just entering a system call when the signal arrived, the handler runs only after that call
        returns, which may take an hour. All signals that arrive while a process is not scheduled are delivered at one
        such moment.
        """
        pause, *longer = pauses or PAUSES

        def again() -> None:
            if not answered():
                self._wake(rank, control)
                self.wake_again(rank, control, later=later, answered=answered, pauses=longer or [pause])

        later(pause, again)

    def _wake(self, rank: int, control: JobControl) -> None:
        pid, number = self._listeners[rank], control_signal()
        seen = read_process_state(pid)
        if seen is not None and (number not in seen.caught or number in seen.pending):
            return  # it would end the rank, or one is pending already
        if pid == control.pid(rank):
            control.send_signal(rank, number)
        else:
            _signal_descendant(pid, number)

    def why_silent(self, rank: int, status: ExitStatus) -> Result | None:
        """Return the result for a rank that ended without a runtime; None if its runtime had announced itself."""
        if self.listens(rank):
            return None
        argv = self._argv.get(rank, ())
        reason = _impossible(argv) if argv else ""
        if not reason and status.signal is not None:
            return NotReached(f"the rank ended with {status} before Python had started in it")
        if not reason:
            reason = (
                f"{argv[0] if argv else 'it'} ended before it imported sitecustomize, or its environment was changed"
            )
        return Unavailable(f"the in-rank runtime did not start in rank {rank}: {reason}")


def _impossible(argv: tuple[str, ...]) -> str:
    """Return why the runtime cannot enter a program, judged by its command line; empty if it can."""
    program = os.path.basename(argv[0])
    if "python" not in program and "pypy" not in program:
        return f"it runs {argv[0]}, which is not Python and started no Python with derail's sitecustomize"
    for word in argv[1:]:
        if not word.startswith("-") or word in ("-c", "-m", "-", "--"):
            break
        if word[1:].isalpha() and set(word[1:]) & set("ISE"):
            return f"its Python was started with {word}, which ignores PYTHONPATH or skips sitecustomize"
    return ""


def _signal_descendant(pid: int, number: int) -> None:
    """Signal the Python process that acts for a rank with a first process that is not Python."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it has ended; the exit of the rank decides the result
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
