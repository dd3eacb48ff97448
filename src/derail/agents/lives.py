"""The ranks of a supervisor that is not ours: found as they appear, held by pidfd, heard, and seen to end.

A Python that is a rank introduces itself before its first line (faults/inrank/meeting.py), and does not go on until it
is known; what is no Python is found by its environment, a moment later. A rank is the uppermost process that was
executed with its number. When the number appears again after its end, that is the next attempt.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from derail.agents.door import Door
from derail.agents.follower import Follower
from derail.agents.held import ENDING, Held, HeldRanks
from derail.agents.inspection import (
    changed,
    has_ended,
    is_python,
    own_streams,
    rank_of,
    streams_of,
    uppermost,
    variable,
)
from derail.agents.order import Life
from derail.faults.catalogue import entry
from derail.faults.targets import AGENT_RANK
from derail.model.events import Exited, LineSeen, SignalSent, Started, Stream
from derail.platform.processes import environment, look_up
from derail.platform.strangers import descendants, status_of_ended

if TYPE_CHECKING:
    from collections.abc import Collection

    from derail.agents.door import Visitor
    from derail.faults.driver import Driver
    from derail.model.clock import Clock
    from derail.model.exit import ExitStatus
    from derail.supervise.loop import Loop

FIRST_LOOK, LONGEST_LOOK = 0.02, 0.1
"""Seconds between two looks for ranks that do not introduce themselves."""
SHY = 10.0
"""Seconds after which a Python that has not introduced itself never will: -S, -I, an environment of its own."""


class ForeignRanks(HeldRanks):
    """Watches the ranks of one job, and tells the driver of them, who may do to them what ``HeldRanks`` can.

    Args:
        ranks: how many there are to be.
        job: the mark of the job.
        loop: whose thread all this happens in.
        driver: who hears of it.
        clock: where the time comes from.
        logs: where streams go that go nowhere of their own; None to leave them as they are.
        shared: files that a rank may have inherited as its streams: those of the supervisors.

    Attributes:
        lives: all that were seen, in the order in which they were found; the supervisor is not among them.
    """

    def __init__(
        self,
        ranks: int,
        job: str,
        *,
        loop: Loop,
        driver: Driver,
        clock: Clock,
        logs: Path | None,
        shared: Collection[Path] = (),
    ) -> None:
        super().__init__(ranks, loop, clock)
        self.lives: list[Life] = []
        self.job = job
        self._driver = driver
        self._logs = logs
        self._shared = shared
        self._door = Door(loop, self._answer)
        self._agents: set[int] = set()
        self._known: set[tuple[int, float]] = set()
        self._shy = any(entry(fault.name).side == "before start" for fault in driver.plan.faults)
        self._seen: dict[tuple[int, float], float] = {}
        self._exits = 0
        self._failed = False

    def open(self, parent: Path | None = None) -> str:
        """Listen for ranks that introduce themselves, and look out for the others.

        Args:
            parent: where the private directory of the socket is made.

        Returns:
            the endpoint of the handshake, which only the ranks of this job may know.
        """
        endpoint = self._door.open(parent)
        self._look_again(FIRST_LOOK)
        return endpoint

    def close(self) -> None:
        """Give all back."""
        super().close()
        self._door.close()

    def agent_started(self, pid: int, pidfd: int, *, first: bool) -> None:
        """A supervisor runs; the first one can be aimed at."""
        self._agents.add(pid)
        if first:
            held = self._hold(Life(AGENT_RANK, 0, pid, self._clock.now()), os.dup(pidfd))
            self._driver.observe(Started(AGENT_RANK, pid, held.life.started_at))

    def agent_ended(self, pid: int, status: ExitStatus) -> None:
        """A supervisor has ended."""
        held = self._held.get(AGENT_RANK)
        if held is not None and held.life.pid == pid:
            held.life.status, held.life.exited_at = status, self._clock.now()
            self._driver.observe(Exited(AGENT_RANK, pid, status, held.life.exited_at))

    def see_ends(self) -> None:
        """Tell of every rank that has ended by now, in an order that nobody knows."""
        for held in self._all_held:
            if held.life.rank != AGENT_RANK and held.life.status is None and has_ended(held.pidfd):
                self._ended(held)

    def _hear_signals(self, held: Held, numbers: bytes) -> None:
        """A rank has got signals that its program handles: those that no fault sent, somebody else did."""
        for number in numbers:
            if number in held.ours:
                held.ours.remove(number)
            else:
                held.life.asked.append(number)
                self._driver.observe(SignalSent(held.life.rank, number, self._clock.now()))

    def _answer(self, visitor: Visitor, told: dict[str, object], pid: int) -> dict[str, object]:
        """What a process is told that says to be a rank."""
        rank = told.get("rank")
        if told.get("job") != self.job or not isinstance(rank, int) or rank not in self.ranks:
            return {"acts": False}
        # A process that is known stays who it is, whatever a fault has told it.
        known = (held for held in self._held.values() if held.life.pid == pid and held.life.status is None)
        upper = uppermost(pid, rank, self.job, self._agents)
        held = next(known, None)
        if held is None and not self._is_left_by_its_rank(rank, upper):
            held = self._find(rank, upper, told.get("argv") if upper == pid else None)
        if held is None or held.acting not in (None, pid):
            return {"acts": False}
        held.visitor, visitor.tell = visitor, lambda numbers: self._hear_signals(held, numbers)
        held.acting = pid
        become, held.become = held.become, None
        if become is not None and pid == held.life.pid:
            return {"acts": True, **become}
        own = own_streams(pid, self._shared)
        streams = held.life.streams = streams_of(held.life, own, self._logs)
        self._follow(held)
        self._loop.post(self._look)  # where one is, the others are
        sent: dict[str, object] = {stream: str(path) for stream, path in streams.items() if stream not in own}
        return {"acts": True, "attempt": held.life.attempt, **sent}

    def _look_again(self, pause: float) -> None:
        self._look()
        self._loop.call_at(self._clock.now() + pause, lambda: self._look_again(min(LONGEST_LOOK, 1.5 * pause)))

    def _look(self) -> None:
        """Look for ranks that have not introduced themselves."""
        here, ranks = os.getpid(), {life.pid for life in self.lives}
        for process in descendants(here).values():
            key = (process.pid, process.started)
            # A child of ours is a supervisor, or was left behind by somebody who has ended; that of a rank is a helper,
            # also if the rank has ended since we looked: no new rank.
            no_rank = process.ppid == here or process.ppid in ranks or process.pid in self._agents
            if key in self._known or not process.alive or no_rank:
                continue
            rank = rank_of(process.pid, self.job)
            if rank is None:
                continue
            age = self._clock.now() - self._seen.setdefault(key, self._clock.now())
            if self._shy and age < SHY and is_python(process.pid):
                continue  # it will introduce itself, and can be changed only then
            if rank in self.ranks and uppermost(process.pid, rank, self.job, self._agents) == process.pid:
                self._find(rank, process.pid)
            self._known.add(key)

    def _is_left_by_its_rank(self, rank: int, pid: int) -> bool:
        """Whether a process is a helper whose rank has ended: it has been left to us, and its rank is known."""
        held = self._held.get(rank)
        if held is None or held.life.pid == pid:
            return False
        process = look_up(pid)
        return process is not None and process.ppid == os.getpid()

    def _find(self, rank: int, pid: int, argv: object = None) -> Held | None:
        """The life of a process that is a rank: the one that is known, or a new one; None if the rank is another.

        Args:
            rank: which.
            pid: the process.
            argv: its command line, if it has just introduced itself and can still become another program.
        """
        held = self._held.get(rank)
        if held is not None and held.life.pid == pid and held.life.status is None:
            return held
        if held is not None and held.life.status is None:
            if not has_ended(held.pidfd):
                return None
            self._ended(held)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        attempt = 0 if held is None else held.life.attempt + 1
        error_file = variable(environment(pid), b"TORCHELASTIC_ERROR_FILE")
        life = Life(rank, attempt, pid, self._clock.now(), error_file=Path(error_file) if error_file else None)
        held = self._hold(life, pidfd)
        self.lives.append(life)
        self._failed = self._failed and attempt == 0
        self._loop.add_reader(pidfd, lambda: self._ended(held))
        own = own_streams(pid, self._shared)
        life.streams = own if argv is None else streams_of(life, own, self._logs)
        held.become = changed(self._driver.plan, self.ranks, life, argv, self._driver.sockets)
        self._driver.observe(Started(rank, pid, life.started_at))
        self._follow(held)
        return held

    def _ended(self, held: Held) -> None:
        life = held.life
        if life.status is not None:
            return
        self._loop.remove_reader(held.pidfd)
        if held.visitor is not None:
            held.visitor.hear()
        life.status = status_of_ended(life.pid, held.pidfd)
        life.exited_at, life.order = self._clock.now(), self._exits
        self._exits += 1
        if held.follower is not None:
            held.follower.finish()
        killed = life.status.signal in ENDING and life.status.signal not in life.signals
        if killed and (self._failed or life.asked or self.asked_at is not None):
            self._driver.observe(SignalSent(life.rank, life.status.signal or 0, life.exited_at))
        self._failed = self._failed or not life.status.ok
        self._driver.observe(Exited(life.rank, life.pid, life.status, life.exited_at))

    def _follow(self, held: Held) -> None:
        """Read the files that the streams of a rank go to, if anybody wants lines."""
        if held.follower is None:
            rank = held.life.rank

            def tell(stream: Stream, text: str) -> None:
                self._driver.observe(LineSeen(rank, stream, text, at=self._clock.now()))

            held.follower = Follower(self._loop, self._clock, tell)
        if self._driver.wants_lines:
            held.follower.follow(held.life.streams)
