"""Handles of the processes of an external job, and the control of faults over them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derail.agents.external.proc_inspection import has_ended, leads_a_group
from derail.agents.external.standstill import Standstill, kills
from derail.faults.model.targets import AGENT_RANK
from derail.platform.groups import signal_process
from derail.platform.private_files import why_not_own

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from derail.agents.external.handshake_server import Visitor
    from derail.agents.external.log_follower import Follower
    from derail.agents.external.messages import Life
    from derail.model.clock import Clock
    from derail.model.events import Stream
    from derail.supervise.loop import Loop

ENDING = frozenset({1, 2, 3, 9, 15})
"""Signals that end a process, or ask it to end, and that a supervisor may send."""


@dataclass(slots=True)
class Held:
    """Handles of a life while the job runs.

    Attributes:
        life: the process and the observations of it.
        pidfd: a pidfd of it, closed when the job is over; -1 from then on.
        acting: the pid of the Python that injects faults in the rank: itself or a child; None before its handshake.
        become: the program that it must exec at its handshake; None if it keeps its own.
        follower: the reader of its streams.
        visitor: the connection to the acting process.
        mapped: whether it has the variables that its program reads.
        ours: the signals that faults have sent it and that it has not reported yet.
    """

    life: Life
    pidfd: int
    acting: int | None = None
    become: dict[str, object] | None = None
    follower: Follower | None = None
    visitor: Visitor | None = None
    mapped: bool = False
    ours: list[int] = field(default_factory=list)


class HeldRanks:
    """``JobControl`` of an external job: the latest process of each rank, and the agent's, each held by its pidfd.

    Args:
        ranks: the expected number of ranks.
        loop: the loop, with the thread in which everything runs.
        clock: the source of time.
        awaited: the ranks with exits that the launcher must not see before derail.

    Attributes:
        ranks: the rank numbers.
        asked_at: monotonic time in seconds at which a fault first asked the supervisor to end; None if none did.
        standstill: stops the launcher while an awaited rank ends.
        evidence: the directory of the run, named by this user; None if there is none.
    """

    def __init__(self, ranks: int, loop: Loop, clock: Clock, awaited: Collection[int] = ()) -> None:
        self.ranks = tuple(range(ranks))
        self.asked_at: float | None = None
        self.standstill = Standstill(self._own_processes, loop, clock)
        self.evidence: Path | None = None
        self._awaited = awaited
        self._loop = loop
        self._clock = clock
        self._held: dict[int, Held] = {}
        self._all_held: list[Held] = []

    def close(self) -> None:
        """Close all handles."""
        self.standstill.close()
        for held in self._all_held:
            if held.follower is not None:
                held.follower.close()
            if held.pidfd >= 0:
                os.close(held.pidfd)
                held.pidfd = -1

    def _own_processes(self) -> Collection[int]:
        """Return the launcher's own processes."""
        return ()

    def _hold(self, life: Life, pidfd: int) -> Held:
        """Make this the process of its rank, and take ownership of the descriptor."""
        held = self._held[life.rank] = Held(life, pidfd)
        self._all_held.append(held)
        return held

    def pid(self, rank: int) -> int | None:
        """Return the pid of a rank, or of the agent."""
        held = self._held.get(rank)
        return None if held is None else held.life.pid

    def pidfd(self, rank: int) -> int | None:
        """Return the pidfd of a rank, or of the agent."""
        held = self._held.get(rank)
        return None if held is None or held.pidfd < 0 else held.pidfd

    def is_alive(self, rank: int) -> bool:
        """Return whether it was found and has not ended."""
        held = self._held.get(rank)
        return held is not None and held.life.status is None and not has_ended(held.pidfd)

    def send_signal(self, rank: int, signal: int, *, group: bool = False) -> bool:
        """Signal a process, and with ``group`` the group that it leads; return False if it had ended."""
        held = self._held.get(rank)
        if held is None or not self.is_alive(rank):
            return False
        if rank == AGENT_RANK and signal in ENDING and self.asked_at is None:
            self.asked_at = self._clock.now()
        if (rank in self._awaited or self.standstill.active) and rank != AGENT_RANK and kills(held.life.pid, signal):
            self.standstill.begin(rank)
        held.life.signals.append(signal)
        held.ours.append(signal)
        if group and leads_a_group(held.life.pid):
            os.killpg(held.life.pid, signal)  # noqa: TID251 - its pidfd was alive just now
            return True
        return signal_process(held.life.pid, held.pidfd, signal)

    def error_file(self, rank: int) -> Path | None:
        """Return the path of its error file from its own report; None if another user could put a file there."""
        held = self._held.get(rank)
        return None if held is None else self._believed(held.life.error_file)

    def log_file(self, rank: int, stream: Stream) -> Path | None:
        """Return the file of a stream, under the same condition."""
        held = self._held.get(rank)
        return None if held is None else self._believed(held.life.streams.get(stream))

    def _believed(self, path: Path | None) -> Path | None:
        """Return a path from a rank's report unless another user could replace it: faults write to it."""
        return None if path is None or why_not_own(path, below=self.evidence) else path

    def call_later(self, delay: float, action: Callable[[], None]) -> Callable[[], None]:
        """Run ``action`` in the loop after ``delay`` seconds."""
        return self._loop.call_at(self._clock.now() + delay, action).cancel

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the loop soon; from any thread."""
        self._loop.post(action)
