"""Stop of the launcher while a rank exits: derail inspects the rank and what it left before the launcher does.

A fault that acts at the exit of a rank needs this moment, and so does one with evidence that a launcher removes at
once. It begins when the rank announces its exit (faults/inrank/exit_announcement.py), or right before a fault kills it.
It ends when the exit is recorded and every fault that waited for it has acted.

The reasons are in docs/adr/agent-stopped-at-exit.md.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from derail.faults.model.results import Injected, NotReached
from derail.faults.model.targets import AGENT_RANK, resolve
from derail.faults.model.triggers import ExitOf, OwnExit, walk
from derail.faults.registry import entry
from derail.model.exit import signal_number
from derail.platform.proc_status import read_process_state
from derail.platform.processes import is_stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from derail.faults.model.plan import Plan
    from derail.faults.model.results import FaultResult
    from derail.model.clock import Clock
    from derail.supervise.loop import Loop

LONGEST = 5.0
"""Maximum seconds of a stop, for a rank that announces its exit and does not exit."""
STOP_TIMEOUT = 1.0
"""Seconds to wait until all threads of a process are stopped."""
HARMLESS = frozenset(map(signal_number, ("CHLD", "CONT", "URG", "WINCH", "STOP", "TSTP", "TTIN", "TTOU")))
"""Signals that end no process by default."""


def awaited_exits(plan: Plan, ranks: Sequence[int]) -> frozenset[int]:
    """Return the ranks with exits that the launcher must not see before derail; none if it is itself a target."""
    found: set[int] = set()
    for fault in plan.faults:
        targets = resolve(plan, fault, (*ranks, AGENT_RANK))
        if AGENT_RANK in targets:
            return frozenset()
        parts, known = list(walk(fault.when)), entry(fault.name)
        together = (
            known.side == "outside" and len(targets) > 1
        )  # otherwise the launcher may end the second target first
        if known.before_launcher or together or any(isinstance(part, OwnExit) for part in parts):
            found.update(targets)
        found.update(part.rank for part in parts if isinstance(part, ExitOf))
    return frozenset(found)


def doubted(result: FaultResult, missed: Collection[int]) -> FaultResult:
    """Return the result of a fault: not reached, if the launcher saw the relevant exit before derail did."""
    parts = list(walk(result.fault.when))
    at_exit = entry(result.fault.name).before_launcher or any(isinstance(part, OwnExit) for part in parts)
    waited_for = {part.rank for part in parts if isinstance(part, ExitOf)}
    late = sorted(rank for rank in missed if rank in waited_for or (at_exit and rank == result.rank))
    if not late or not isinstance(result.result, Injected):
        return result
    why = f"the launcher could not be stopped before rank {late[0]} ended, and may have acted first"
    return replace(result, result=NotReached(f"{why}; {result.detail}"))


def kills(pid: int, number: int) -> bool:
    """Return whether a signal ends a process at once: the process neither handles, ignores nor blocks it."""
    if number == signal.SIGKILL:
        return True
    seen = read_process_state(pid)
    if seen is None or number in HARMLESS:
        return False
    return number not in seen.caught and number not in seen.ignored and number not in seen.blocked


class Standstill:
    """Stop of the launcher's own processes while one of several ranks exits.

    Args:
        processes: returns the launcher's own processes.
        loop: the loop, with the thread in which everything runs.
        clock: the source of time.

    Attributes:
        seen: the ranks with a first exit at which the launcher was stopped.
        missed: the ranks with a first exit at which it should have been stopped, and was not.
    """

    def __init__(self, processes: Callable[[], Collection[int]], loop: Loop, clock: Clock) -> None:
        self.seen: set[int] = set()
        self.missed: set[int] = set()
        self._processes = processes
        self._loop = loop
        self._clock = clock
        self._ranks: dict[int, object] = {}
        self._stopped: dict[int, int] = {}
        self._pause = threading.Event()

    @property
    def active(self) -> bool:
        """Whether the launcher is stopped."""
        return bool(self._stopped)

    def begin(self, rank: int) -> None:
        """Stop the launcher until ``end`` of the same rank, or for ``LONGEST`` seconds."""
        if not self._stopped:
            self._stop()
        mine = self._ranks[rank] = object()
        self._loop.call_at(self._clock.now() + LONGEST, lambda: self._give_up(rank, mine))

    def ended(self, rank: int) -> None:
        """Record at the exit of a rank whether the launcher was stopped."""
        if rank not in self.seen | self.missed:
            (self.seen if self._stopped else self.missed).add(rank)

    def end(self, rank: int) -> None:
        """Continue the launcher, unless another rank needs it to be stopped. Idempotent."""
        self._ranks.pop(rank, None)
        if not self._ranks:
            self.close()

    def close(self) -> None:
        """Continue the launcher. Idempotent."""
        self._ranks.clear()
        stopped, self._stopped = self._stopped, {}
        for pidfd in stopped.values():
            _send(pidfd, signal.SIGCONT)
            os.close(pidfd)

    def _give_up(self, rank: int, mine: object) -> None:
        if self._ranks.get(rank) is mine:
            self.end(rank)

    def _stop(self) -> None:
        """Stop all launcher processes, and repeat until no new one appears."""
        deadline = self._clock.now() + STOP_TIMEOUT
        while new := [pid for pid in self._processes() if pid not in self._stopped]:
            for pid in new:
                try:
                    self._stopped[pid] = os.pidfd_open(pid)
                except OSError:
                    continue
                _send(self._stopped[pid], signal.SIGSTOP)
            while not all(map(is_stopped, self._stopped)) and self._clock.now() < deadline:
                self._pause.wait(0.001)
            if self._clock.now() >= deadline:
                return


def _send(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        pass
