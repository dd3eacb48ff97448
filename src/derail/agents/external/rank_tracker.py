"""Tracker of the ranks of an external agent: found as they appear, held by pidfd, and followed to their exit.

A rank that is Python does its handshake before its first line (faults/inrank/handshake.py), and waits until it is
registered; other programs are found by their environment, a moment later. A rank is the uppermost process with its
number that executes the ranks' program, or, if none visibly does, the uppermost with its number. When the number
appears again after its exit, that is the next attempt, except for helpers of the rank: their ancestors identify them
from the moment they appear, whichever process adopts them later.
"""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import TYPE_CHECKING

from derail.agents.external.handshake_server import HandshakeServer
from derail.agents.external.log_follower import Follower
from derail.agents.external.messages import Life
from derail.agents.external.proc_inspection import (
    Places,
    Worker,
    changed,
    environment_of,
    executes,
    has_ended,
    is_full,
    is_python,
    rank_of,
    runs,
    started_by,
    streams,
    uppermost,
    variable,
    words_of,
    written_by,
)
from derail.agents.external.rank_handle import ENDING, Held, HeldRanks
from derail.agents.external.standstill import awaited_exits
from derail.faults.inrank.exit_announcement import ANNOUNCED
from derail.faults.model.targets import AGENT_RANK
from derail.faults.registry import entry
from derail.model.events import Exited, LineSeen, SignalSent, Started, Stream
from derail.model.input_error import InputError
from derail.platform.leftovers import carries_mark
from derail.platform.processes import environment, every_process, look_up, runs_as_us
from derail.platform.strangers import descendants, status_of_ended

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from derail.agents.external.handshake_server import Visitor
    from derail.faults.engine.driver import Driver
    from derail.model.clock import Clock
    from derail.model.exit import ExitStatus
    from derail.platform.processes import ProcessInfo
    from derail.supervise.loop import Loop

FIRST_LOOK, LONGEST_LOOK = 0.02, 0.1
"""Seconds between two searches for ranks without a handshake: at first, and at most."""
LOOKS = 40
"""Number of checks of a process that is not below this one before it counts as unrelated to the job."""
SHY = 10.0
"""Seconds after which a Python without a handshake will never do one: started with -S or -I, or other environment."""


class RankTracker(HeldRanks):
    """Tracker of the ranks of one job, which reports them to the driver and controls them as ``HeldRanks`` does.

    Args:
        ranks: the expected number of ranks.
        job: the mark of the job.
        loop: the loop, with the thread in which everything runs.
        driver: the driver, which gets the events.
        clock: the source of time.
        places: the destinations of the ranks' streams.
        worker: the ranks' program, and the variables that it needs.

    Attributes:
        lives: all lives, in the order in which they were found, without the supervisor's.
        nameless: the command lines of processes that run the ranks' program without a rank, by pid.
        hidden: by rank, the command line of the Python that acts for it but runs the program in a child.
    """

    def __init__(
        self,
        ranks: int,
        job: str,
        *,
        loop: Loop,
        driver: Driver,
        clock: Clock,
        places: Places = Places(),  # noqa: B008 - frozen
        worker: Worker = Worker(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(ranks, loop, clock, awaited_exits(driver.plan, range(ranks)))
        self.lives: list[Life] = []
        self.nameless: dict[int, str] = {}
        self.hidden: dict[int, str] = {}
        self.job = job
        self._driver = driver
        self._places = places
        self._worker = worker
        self._elsewhere: dict[tuple[int, float], int] = {}
        self._handshakes = HandshakeServer(loop, self._answer)
        self._agents: set[int] = set()
        self._wrappers: set[int] = set()
        self._known: set[tuple[int, float]] = set()
        self._shy = any(entry(fault.name).side == "before start" for fault in driver.plan.faults)
        self._seen: dict[tuple[int, float], float] = {}
        self._helpers: set[tuple[int, float]] = set()
        self._ends: select.epoll | None = None
        self._ending = False
        self._watched: dict[int, Held] = {}
        self._exits = 0
        self._failed = False

    def open(self, parent: Path | None = None) -> str:
        """Listen for handshakes of ranks, and start to search for the others.

        Args:
            parent: the parent of the socket's private directory.

        Returns:
            the endpoint of the handshake, a secret of the ranks of this job.
        """
        endpoint = self._handshakes.open(parent)
        self._look_again(FIRST_LOOK)
        return endpoint

    def close(self) -> None:
        """Close all handles."""
        super().close()
        self._handshakes.close()
        if self._ends is not None:
            self._loop.remove_reader(self._ends.fileno())
            self._ends.close()
            self._ends = None

    def agent_started(self, pid: int, pidfd: int, *, first: bool) -> None:
        """Register a running supervisor; the first one can be a target."""
        self._agents.add(pid)
        if first:
            held = self._hold(Life(AGENT_RANK, 0, pid, self._clock.now()), os.dup(pidfd))
            self._driver.observe(Started(AGENT_RANK, pid, held.life.started_at))

    def agent_ended(self, pid: int, status: ExitStatus) -> None:
        """Record the exit of a supervisor."""
        held = self._held.get(AGENT_RANK)
        if held is not None and held.life.pid == pid:
            held.life.status, held.life.exited_at = status, self._clock.now()
            self._driver.observe(Exited(AGENT_RANK, pid, status, held.life.exited_at))

    def see_ends(self, before: Held | None = None) -> None:
        """Report every rank that has ended by now, in the order of their exits (epoll(7) keeps it).

        Args:
            before: report only those that ended before this one.
        """
        while self._ends is not None and not self._ending:
            ready = [self._watched[fd] for fd, _ in self._ends.poll(0)]
            for held in ready:
                if held is before:
                    return
                self._ended(held)
            if not ready:
                return

    def _hear(self, held: Held, numbers: bytes) -> None:
        """Handle a message of a rank: it is about to end, or its program handled signals.

        A signal that no fault has sent is from another process.
        """
        self.see_ends(before=held)  # the launcher that has sent the signal has seen these exits as well
        for number in numbers:
            if number == ANNOUNCED[0]:
                if not self._ending:  # otherwise it was killed while it waited for the answer
                    self.standstill.begin(held.life.rank)
                if held.visitor is not None:
                    held.visitor.send(b"!")
            elif number in held.ours:
                held.ours.remove(number)
            else:
                held.life.asked.append(number)
                self._driver.observe(SignalSent(held.life.rank, number, self._clock.now()))

    def _answer(self, visitor: Visitor, report: dict[str, object], pid: int) -> dict[str, object]:
        """Return the answer to the handshake of a process that reports to be a rank."""
        rank = report.get("rank")
        if report.get("job") != self.job or not isinstance(rank, int) or rank not in self.ranks:
            if report.get("job") == self.job and rank is None and pid not in self._agents:
                self._note_nameless(pid, report.get("argv"))
            return {"acts": False}
        self.see_ends()
        # A registered process keeps its rank, even if a fault has changed its RANK.
        known = (held for held in self._held.values() if held.life.pid == pid and held.life.status is None)
        held = next(known, None)
        upper = pid if held is not None else self._process_of_rank(pid, rank, report.get("argv"))
        if held is None and not self._is_helper(rank, upper):
            runs_worker = self._worker.is_run(pid, report.get("argv")) or self._worker.is_run(upper)
            held = self._find(rank, upper, report.get("argv") if upper == pid else None, runs_worker=runs_worker)
        if held is None or held.acting not in (None, pid):
            return {"acts": False}
        held.visitor, visitor.tell = visitor, lambda numbers: self._hear(held, numbers)
        held.acting = pid
        become, held.become = held.become, None
        if become is not None and pid == held.life.pid:
            held.mapped = True
            return {"acts": True, **become}
        self._places.place(held.life, pid)
        self._follow(held)
        self._loop.post(self._look)  # where one rank is, there are others
        files = {stream: (held.life.sources[stream], str(path)) for stream, path in held.life.streams.items()}
        sent: dict[str, object] = {stream: path for stream, (source, path) in files.items() if source == "derail"}
        sent["copies"] = {stream: path for stream, (source, path) in files.items() if source == "copy"}
        if not held.mapped:  # otherwise a fault has changed its environment since
            sent["set"] = self._worker.missing(environment_of(pid))
        if rank in self._awaited and pid == held.life.pid:
            sent |= {"announce": True, "error_file": str(held.life.error_file or "")}
        return {"acts": True, "attempt": held.life.attempt, **sent}

    def _look_again(self, pause: float) -> None:
        self._look()
        self._loop.call_at(self._clock.now() + pause, lambda: self._look_again(min(LONGEST_LOOK, 1.5 * pause)))

    def _look(self) -> None:
        """Search for ranks without a handshake, and for helpers of ranks."""
        here = os.getpid()
        processes = descendants(here)
        self._note_helpers(processes)
        self._note_hidden(processes.values())
        processes |= self._find_elsewhere(processes)
        for process in processes.values():
            key = (process.pid, process.started)
            if key in self._known or key in self._helpers or not process.alive:
                continue
            # A child of this process is a supervisor, or the orphan of a process that has ended.
            if process.ppid == here or process.pid in self._agents or process.pid in self._wrappers:
                continue
            rank = rank_of(process.pid, self.job)
            if rank is None:
                continue
            age = self._clock.now() - self._seen.setdefault(key, self._clock.now())
            if is_python(process.pid) and (self._introduces(rank) or (self._shy and age < SHY)):
                continue  # it will do its handshake, or it is a fork of a rank that has, and no new attempt
            if self._worker.is_python and age < SHY and not is_python(process.pid):
                continue  # it will exec the Python that runs the program, or starts it and stays above it
            if rank in self.ranks and self._process_of_rank(process.pid, rank) == process.pid:
                if self._is_helper(rank, process.pid):
                    self._helpers.add(key)
                elif self._find(rank, process.pid, runs_worker=self._is_run_below(process.pid, processes)) is None:
                    continue  # it may run the ranks' program later
            self._known.add(key)

    def _find_elsewhere(self, below: Collection[int]) -> dict[int, ProcessInfo]:
        """Find processes of the job started by a daemon: they carry its mark, and are not below this process.

        Args:
            below: the processes below this one.
        """
        found: dict[int, ProcessInfo] = {}
        for process in every_process(skip={os.getpid(), *below}):
            key = (process.pid, process.started)
            looks = self._elsewhere.get(key, 0)
            if key in self._known or looks >= LOOKS or not process.alive:
                continue  # its exec is long past, and its environment has no mark
            if runs_as_us(process.pid) and carries_mark(environment(process.pid), self.job):
                found[process.pid] = process
            else:
                self._elsewhere[key] = looks + 1
        return found

    def _note_nameless(self, pid: int, argv: object) -> None:
        """Record a process that runs the ranks' program without a rank in its environment."""
        if runs(argv, self._worker.script):
            self.nameless[pid] = words_of(pid)

    def full_pipes(self) -> dict[tuple[int, Stream], str]:
        """Return the streams of living ranks that are full pipes, with the ranks' count of bytes written."""
        alive = [held.life for held in self._held.values() if held.life.rank != AGENT_RANK and held.life.status is None]
        return {
            (life.rank, stream): written_by(life.pid)
            for life in alive
            for number, stream in streams()
            if is_full(life.pid, number)
        }

    def _note_helpers(self, processes: Mapping[int, ProcessInfo]) -> None:
        """Record the processes below a rank: they are its helpers, even after another process adopts them.

        Args:
            processes: parents before their children.
        """
        ranks = {life.pid for life in self.lives}
        below = set(ranks)
        for process in processes.values():
            key = (process.pid, process.started)
            if process.pid not in ranks and (process.ppid in below or key in self._helpers):
                self._helpers.add(key)
                below.add(process.pid)

    def _own_processes(self) -> Collection[int]:
        """Return the launcher's own processes: those below it that are neither ranks nor helpers of ranks."""
        processes = descendants(os.getpid())
        self._note_helpers(processes)
        ranks = {life.pid for life in self.lives}
        own: set[int] = set()
        for process in processes.values():
            if not process.alive or process.pid in ranks or (process.pid, process.started) in self._helpers:
                continue
            numbered = process.pid not in self._wrappers and rank_of(process.pid, self.job) is not None
            if process.pid in self._agents or (process.ppid in own and not numbered):
                own.add(process.pid)
        return own

    def _process_of_rank(self, pid: int, rank: int, argv: object = None) -> int:
        """Return the process that is the rank: the uppermost from ``pid`` upwards that executes the program, if any.

        Processes above it only wait for it, like a shell, ``timeout`` or the launcher's proxy: they belong to the
        launcher.

        Args:
            pid: a process with this rank in its environment.
            rank: the rank number.
            argv: its command line, if it is doing its handshake.
        """
        upper = uppermost(pid, rank, self.job, {*self._agents, *self._wrappers})
        chain, script = [pid], self._worker.script
        while chain[-1] != upper and (process := look_up(chain[-1])) is not None:
            chain.append(process.ppid)
        became = {held.life.pid for held in self._all_held if held.mapped}
        for above in reversed(chain):
            if above in became or executes(above, script) or (above == pid and runs(argv, script)):
                waiting = chain[chain.index(above) + 1 :]
                self._wrappers.update(waiting)
                if waiting and (process := look_up(above)) is not None:
                    self._helpers.discard(
                        (above, process.started)
                    )  # it was a helper of the process that counted as the rank until now
                return above
        return upper

    def _is_helper(self, rank: int, pid: int) -> bool:
        """Return whether a process is a helper of the rank with its number, alive or dead, whatever its parent is."""
        held, process = self._held.get(rank), look_up(pid)
        if held is None or process is None or held.life.pid == pid:
            return False
        lives = {life.pid for life in self.lives if life.rank == rank} - self._wrappers
        started = started_by(pid, self.job)
        return (
            (process.pid, process.started) in self._helpers
            or process.ppid in (*lives, os.getpid())  # or this process has adopted it
            or not lives.isdisjoint((process.sid, process.pgid))
            or (started is not None and started in lives)
        )

    def _introduces(self, rank: int) -> bool:
        """Return whether the last process of a rank did its handshake, so that the next one will do it as well."""
        held = self._held.get(rank)
        return held is not None and held.acting == held.life.pid

    def _note_hidden(self, processes: Collection[ProcessInfo]) -> None:
        """Record ranks with an acting Python that runs the program in another Python: faults act in the first."""
        script = self._worker.script
        acting = {held.acting: held for held in self._held.values() if not held.mapped and held.life.rank != AGENT_RANK}
        for process in processes:
            held = acting.get(process.ppid)
            if held is not None and executes(process.pid, script) and not executes(process.ppid, script):
                self.hidden[held.life.rank] = words_of(process.ppid) or self.hidden.get(held.life.rank, "")

    def _is_run_below(self, pid: int, processes: Mapping[int, ProcessInfo]) -> bool:
        """Return whether a process, or one below it, runs the ranks' program; parents precede their children."""
        below = {pid}
        for process in processes.values():
            if process.ppid in below or process.pid == pid:
                below.add(process.pid)
                if self._worker.is_run(process.pid):
                    return True
        return False

    def _find(self, rank: int, pid: int, argv: object = None, *, runs_worker: bool = True) -> Held | None:
        """Return the life of a process that is a rank, known or new; None if the rank is another process.

        Args:
            rank: the rank.
            pid: the process.
            argv: its command line, if it is doing its handshake and can still exec another program.
            runs_worker: whether it, or a process below it, runs the ranks' program.
        """
        held = self._held.get(rank)
        if held is not None and held.life.pid == pid and held.life.status is None:
            held.life.runs_worker = held.life.runs_worker or runs_worker
            return held
        if not runs_worker and any(life.runs_worker for life in self.lives):
            return None  # a helper of the launcher with a rank, or a process that will run the program later
        replaced = held is not None and (held.life.pid in self._wrappers or (runs_worker and not held.life.runs_worker))
        if held is not None and held.life.status is None and replaced:
            held = self._drop(held)
        if held is not None and held.life.status is None:
            if not has_ended(held.pidfd):
                return None
            self.see_ends()
            if held.life.status is None:
                return None  # its exit is being reported now
        if held is not None and held.life.pid == pid:
            return None  # it has ended between its handshake and the answer
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        attempt = 0 if held is None else held.life.attempt + 1
        error_file = variable(environment(pid), b"TORCHELASTIC_ERROR_FILE") if runs_as_us(pid) else None
        life = Life(rank, attempt, pid, self._clock.now(), error_file=Path(error_file) if error_file else None)
        life.runs_worker = runs_worker
        life.wrapped = (process := look_up(pid)) is not None and process.ppid in self._wrappers
        held = self._hold(life, pidfd)
        self.lives.append(life)
        self._failed = self._failed and attempt == 0
        self._watch_end(held)
        if argv is None:
            self._places.find(life)
        else:
            self._places.place(life, pid)
        environ = environment_of(pid)
        known = environ | self._worker.missing(environ)
        try:
            held.become = changed(self._driver.plan, self.ranks, life, argv, self._driver.sockets, known)
        except (
            InputError
        ):  # the rank cannot be changed: it lacks an error file, for example; the fault's result will report it
            held.become = None
        self._driver.observe(Started(rank, pid, life.started_at))
        self._follow(held)
        return held

    def _drop(self, held: Held) -> Held | None:
        """Drop a process with a rank that is a launcher helper or a wrapper, and return the previous one, if any."""
        self.lives.remove(held.life)
        if self._ends is not None:
            self._ends.unregister(held.pidfd)
        if held.follower is not None:
            held.follower.close()
        self._all_held.remove(held)
        os.close(held.pidfd)
        del self._held[held.life.rank]
        before = [each for each in self._all_held if each.life.rank == held.life.rank]
        if before:
            self._held[held.life.rank] = before[-1]
        return self._held.get(held.life.rank)

    def _watch_end(self, held: Held) -> None:
        if self._ends is None:
            self._ends = select.epoll()
            self._loop.add_reader(self._ends.fileno(), self.see_ends)
        self._watched[held.pidfd] = held
        self._ends.register(held.pidfd, select.EPOLLIN)

    def _ended(self, held: Held) -> None:
        life = held.life
        if self._ends is not None:
            self._ends.unregister(held.pidfd)
        self._ending = True
        try:
            if life.rank in self._awaited:
                self.standstill.ended(life.rank)
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
        finally:
            self._ending = False
            self.standstill.end(life.rank)

    def _follow(self, held: Held) -> None:
        """Read the files of a rank's streams, if the driver wants lines."""
        if held.follower is None:
            rank = held.life.rank

            def tell(stream: Stream, text: str) -> None:
                self._driver.observe(LineSeen(rank, stream, text, at=self._clock.now()))

            held.follower = Follower(self._loop, self._clock, tell)
        if self._driver.wants_lines:
            earlier = held.life.attempt > 0 and any(map(self._places.declares, held.life.streams.values()))
            held.follower.follow(held.life.streams, skip=earlier)


def workers_of(lives: list[Life]) -> list[Life]:
    """Return the lives of ranks: if any process with a rank runs the ranks' program, those that do not are helpers."""
    return [life for life in lives if life.runs_worker] or lives
