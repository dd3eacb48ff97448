"""What the driver and the runtimes inside ranks say to each other: through the journal, and one signal.

A runtime announces itself in the journal, and writes there when it acts. The driver writes a ``tell`` record and sends
the control signal, whose handler makes the rank look.
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
"""Seconds after which a rank that was told, and says nothing, is woken again; the last of them again and again."""


class Dialogue:
    """The driver's half."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._reader = Reader(journal.path)
        self._listeners: dict[int, int] = {}
        self._argv: dict[int, tuple[str, ...]] = {}

    def begin(self) -> None:
        """Hear what is written from now on."""
        self._reader.skip()

    def prepared(self, spec: JobSpec) -> None:
        """Remember what the ranks are told to run."""
        self._argv = {rank.rank: rank.run.argv for rank in spec.ranks if isinstance(rank.run, Command)}

    def started(self, rank: int, pid: int) -> None:
        """Remember what the rank really runs. Just after an exec the kernel may not tell yet: the spec does then."""
        self._argv[rank] = command_line(pid) or self._argv.get(rank, ())

    def forget(self, rank: int) -> None:
        """The rank was started again: nobody acts for it yet."""
        self._listeners.pop(rank, None)

    def hear(self) -> list[Record]:
        """What ranks wrote since the last time."""
        heard = [record for record in self._reader.read() if record.get("by") != os.getpid()]
        for record in heard:
            rank, pid = record.get("rank"), record.get("by")
            if record["event"] == "runtime" and isinstance(rank, int) and isinstance(pid, int):
                self._listeners.setdefault(rank, pid)
        return heard

    def listens(self, rank: int) -> bool:
        """Whether a runtime in this rank has announced itself."""
        return rank in self._listeners

    def tell(self, rank: int, fault: str, control: JobControl, *, hit: int | None) -> Result | None:
        """Tell the runtime of a rank that listens that a fault is due. What prevents it, or None.

        Raises:
            OSError: if it could not be journalled; then nothing was sent.
        """
        pid, number = self._listeners[rank], control_signal()
        seen = read_process_state(pid)
        if seen is not None and seen.ended:
            return NotReached(f"the Python that acts for rank {rank} (pid {pid}) had ended")
        if seen is not None and number not in seen.caught:
            # Sent all the same it would end the rank: that is its default action.
            why = "it was about to end, or its program took it away"
            return NotReached(
                f"rank {rank} has no handler of {signal_name(number)} any more, by which it is told: {why}"
            )
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
        """Wake a rank that was told until it answers. If its Python was just entering a system call when the signal
        came, its handler runs when that returns, be it in an hour; and all signals that come to a process while it is
        not let run arrive in one such moment."""
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
            return  # it would end the rank, or waits to be delivered as it is
        if pid == control.pid(rank):
            control.send_signal(rank, number)
        else:
            _signal_descendant(pid, number)

    def why_silent(self, rank: int, status: ExitStatus) -> Result | None:
        """What it means that no runtime had announced itself in a rank when it ended; None if one had."""
        if self.listens(rank):
            return None
        argv = self._argv.get(rank, ())
        reason = _impossible(argv) if argv else ""
        if not reason and status.signal is not None:
            return NotReached(f"the rank ended with {status} before its Python had started")
        if not reason:
            reason = (
                f"{argv[0] if argv else 'it'} ended before it came to sitecustomize, or its environment was changed"
            )
        return Unavailable(f"the in-rank runtime did not start in rank {rank}: {reason}")


def _impossible(argv: tuple[str, ...]) -> str:
    """Why a program cannot be entered at all, as far as its command line tells; empty if it can."""
    program = os.path.basename(argv[0])
    if "python" not in program and "pypy" not in program:
        return f"it runs {argv[0]}, which is no Python, and starts none that could be entered"
    for word in argv[1:]:
        if not word.startswith("-") or word in ("-c", "-m", "-", "--"):
            break
        if word[1:].isalpha() and set(word[1:]) & set("ISE"):
            return f"its Python was started with {word}, which keeps PYTHONPATH or sitecustomize out"
    return ""


def _signal_descendant(pid: int, number: int) -> None:
    """Signal the Python that acts for a rank whose own process is no Python."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it has ended; the end of the rank will say what that means
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
