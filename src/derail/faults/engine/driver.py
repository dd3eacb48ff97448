"""Carries out a plan while a job runs: an observer that evaluates triggers, injects, verifies, journals and heals.

Each fault on each rank goes: waiting -> due -> journal ``start`` -> act -> verify on the target -> journal ``end``.
What has a ``start`` and no ``end`` is unknown. Nothing is silent: an injector that throws ends as ``errored``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.faults.catalogue.injector_api import Aim
from derail.faults.engine import prepare as preparing
from derail.faults.engine.execution import Shot
from derail.faults.engine.injector_runner import FIRST_LOOK, LONGEST_LOOK, Firing, thrown
from derail.faults.engine.journal import Journal
from derail.faults.engine.rank_channel import Dialogue
from derail.faults.engine.sync_points import Gates
from derail.faults.engine.trigger_matcher import Elapsed, Found, Reached, Setting, condition
from derail.faults.model.results import Errored, FaultResult, NotReached, Unavailable
from derail.faults.model.targets import AGENT_RANK, resolve
from derail.faults.model.triggers import Line, walk
from derail.faults.registry import entry
from derail.model.events import Exited, Finished, LineSeen, SignalSent, Started, ValueReceived
from derail.platform.handshake import PrivateDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from derail.faults.engine.journal import Record
    from derail.faults.engine.sync_points import Gate
    from derail.faults.engine.trigger_matcher import Occasion
    from derail.faults.model.plan import Plan
    from derail.faults.model.triggers import Data
    from derail.model.events import Event, JobControl
    from derail.model.spec import JobSpec


class Driver:
    """The observer of one run of one job. Use it once.

    ``run`` says what the ranks run, for whoever wants to run it again from the journal. A job with an ``agent`` tells
    of it as of a rank, whose number is ``AGENT_RANK``. Ranks that may be started again, ``restarts`` times, tell of it
    with ``Started``: what was not done to a rank before its end may be done to it later, and what was done is done.
    ``temporary`` is where its private directory is made.

    Attributes:
        sockets: the private directory for the sockets of the job.
        wants_lines: whether a trigger of the plan waits for a line.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        journal: Path,
        run: Mapping[str, Data] | None = None,
        gates: Collection[Gate] = (),
        agent: bool = False,
        restarts: int = 0,
        temporary: Path | None = None,
    ) -> None:
        self.plan = plan
        self.sockets = PrivateDirectory(temporary)
        self._agent = (AGENT_RANK,) if agent else ()
        self._restarts = restarts
        self._gates = Gates(gates)
        self._run = run
        self.journal = Journal(journal)
        self.wants_lines = any(isinstance(part, Line) for fault in plan.faults for part in walk(fault.when))
        self._dialogue = Dialogue(self.journal)
        self._shots: list[Shot] = []
        self._control: JobControl | None = None
        self._fire: Firing | None = None
        self._started: dict[int, float] = {}
        self._sent: dict[int, list[int]] = {}
        self._values: dict[int, list[float]] = {}
        self._attempts: dict[int, int] = {}
        self._staying: dict[Reached, int] = {}
        self._watching = False
        self._planned = False
        self._broken = ""

    def prepare(self, spec: JobSpec) -> JobSpec:
        """The job with what its in-rank faults need. Creates the journal, so that ranks can write to it.

        Raises:
            InputError: if the plan cannot be carried out on this job.
            OSError: if the journal cannot be written.
        """
        prepared = preparing.prepare(
            self.plan, spec, journal=self.journal.path, gates=self._gates, sockets=self.sockets
        )
        self._write_plan(tuple(rank.rank for rank in spec.ranks))
        self._dialogue.prepared(spec)
        self._attempts = {rank.rank: _attempt(rank.env) for rank in spec.ranks}
        return prepared

    def results(self) -> tuple[FaultResult, ...]:
        """What came of each fault on each rank, in the order of the plan. Final once the job has finished."""
        if not self._shots:
            why = self._broken or "the job was never started"
            return tuple(FaultResult(fault, None, NotReached(why)) for fault in self.plan.faults)
        return tuple(shot.report() for shot in self._shots)

    def attach(self, control: JobControl) -> None:
        """Aim every fault. What cannot be done on this machine ends here, as unavailable."""
        self._control, self._fire = control, Firing(control, self.journal, self._break)
        try:
            self._write_plan(control.ranks)
            self._aim(control)
        except Exception as error:  # an observer that throws is dropped in silence; its faults must not be
            self._break(error)

    def observe(self, event: Event) -> None:
        """Take in one event of the job, and do what is due."""
        try:
            self._firing.note(event)
            match event:
                case Started():
                    self._on_started(event)
                case SignalSent():
                    self._sent.setdefault(event.rank, []).append(event.signal)
                case ValueReceived():
                    self._values.setdefault(event.rank, []).append(event.at)
                    self._gates.end(event.rank, "returned")
                case Exited():
                    self._on_exited(event)
                case Finished():
                    self._on_finished()
                case _:
                    self._tell_all(event)
        except Exception as error:  # an observer that throws is dropped in silence; its faults must not be
            self._break(error)

    def heal(self) -> None:
        """Undo whatever can be undone and was not yet, newest first.

        To be called from the thread of the job, or when that has ended: if the supervision failed, nobody else did it.
        """
        for shot in reversed(self._shots):
            self._firing.heal(shot)
        self.sockets.close()

    @property
    def _firing(self) -> Firing:
        assert self._fire is not None, "a driver hears of a job before anything happens in it"
        return self._fire

    def _write_plan(self, ranks: tuple[int, ...]) -> None:
        if not self._planned:
            self._dialogue.begin()
            self.journal.write_plan(self.plan, ranks, self._run)
            self._planned = True

    def _aim(self, control: JobControl) -> None:
        for fault in self.plan.faults:
            known = entry(fault.name)
            for rank in resolve(self.plan, fault, (*control.ranks, *self._agent)):
                aim = Aim(fault, rank, self.plan.seed, control, sent_by_supervisor=self._sent.setdefault(rank, []))
                aim.values, aim.sockets = self._values.setdefault(rank, []), self.sockets
                setting = Setting(fault.id, rank, self.plan.seed, control.ranks, self._attempts, self._wake)
                shot = Shot(fault, rank, known, aim, condition(fault.when, setting))
                self._shots.append(shot)
                reason = known.requires.unavailable()
                if reason:
                    self._firing.end(shot, Unavailable(reason))
                else:
                    self._get_ready(shot, known.setup.await_rank)

    def _wake(self, seconds: float, condition: object) -> None:
        self._firing.later(seconds, lambda: self._tell_all(Elapsed(condition)))

    def _on_started(self, event: Started) -> None:
        if event.rank in self._started:
            self._attempts[event.rank] = self._attempts.get(event.rank, 0) + 1
            self._dialogue.forget(event.rank)
            self._sent.setdefault(event.rank, []).clear()
        self._started[event.rank] = event.at
        for shot in self._open(event.rank):
            self._get_ready(shot, shot.entry.setup.begin)
        if self._gates or any(shot.waits_for_rank or shot.inside for shot in self._open()):
            self._dialogue.started(event.rank, event.pid)
            self._watch()
        self._tell_all(event)

    def _tell_all(self, occasion: Occasion) -> None:
        """Whose trigger comes with what happens now, is due."""
        for shot in self._open():
            if shot.condition.hear(occasion):
                if isinstance(occasion, LineSeen):
                    where = {"rank": occasion.rank, "stream": occasion.stream, "text": occasion.text}
                    self._firing.write("line", **where, fault=shot.fault.id)
                self._due(shot)

    def _get_ready(self, shot: Shot, how: Callable[[Aim], None]) -> None:
        try:
            how(shot.aim)
        except Exception as error:  # whatever it throws, this fault will not verifiably happen; the others may
            self._firing.end(shot, thrown(error))

    def _on_exited(self, event: Exited) -> None:
        self._read_ranks()
        self._staying = {reached: pid for reached, pid in self._staying.items() if reached.rank != event.rank}
        self._gates.end(event.rank, f"ended with {event.status}")
        self._tell_all(event)
        again = event.rank != AGENT_RANK and self._attempts.get(event.rank, 0) < self._restarts
        for shot in [] if again else self._open():
            if shot.rank != event.rank and not shot.due and shot.condition.hopeless(event.rank):
                ended = f"rank {event.rank} ended with {event.status} before it came there"
                self._firing.end(shot, NotReached(f"{shot.condition.missed()}; {ended}"))
        for shot in self._open(event.rank):
            if shot.result is None and (shot.acted or shot.told or not again):
                lived = event.at - self._started.get(event.rank, event.at)
                silent = self._dialogue.why_silent(event.rank, event.status)
                try:
                    result = shot.result_at_exit(event.status, lived, silent)
                except Exception as error:  # the look at the target failed: that is no proof
                    result = thrown(error)
                self._firing.end(shot, result)

    def _on_finished(self) -> None:
        self._read_ranks()
        for shot in self._open():
            self._firing.end(shot, shot.result_at_end())
        self._gates.finish()
        self.heal()

    def _due(self, shot: Shot) -> None:
        if shot.own or shot.result is not None or (shot.due and not shot.each_time):
            return
        if self._control is None or self._control.pid(shot.rank) is None:
            self._firing.end(shot, NotReached(f"it was due ({shot.fault.when}), but its rank had not been started yet"))
            return
        again, shot.due = shot.due, True
        if shot.inside:
            self._read_ranks()
            self._tell(shot)
            self._watch()
        elif again and shot.awaits is not None:
            shot.waiting.append(shot.condition.hit)
        elif shot.acted < shot.fault.times:
            self._firing.act(shot, shot.condition.hit)

    def _tell(self, shot: Shot) -> None:
        """Tell the rank that a fault is due; if its runtime does not listen yet, when it does."""
        if self._control is None or shot.told or shot.result is not None or not self._dialogue.listens(shot.rank):
            return
        shot.told = True
        try:
            prevented = self._dialogue.tell(shot.rank, shot.fault.id, self._control, hit=shot.condition.hit)
        except OSError as error:
            prevented = Errored(f"not done, because it could not be journalled: {error}")
        if prevented is not None:
            self._firing.end(shot, prevented)
            return

        def answered() -> bool:
            self._read_ranks()
            return shot.acted > 0 or shot.result is not None

        self._dialogue.wake_again(shot.rank, self._control, later=self._firing.later, answered=answered)

    def _watch(self, pause: float = FIRST_LOOK) -> None:
        """Look into the journal for what ranks write, as long as one of them has something to say."""
        if self._watching:
            return

        def look() -> None:
            self._watching = False
            self._read_ranks()
            if self._gates or self._staying or any(shot.waits_for_rank for shot in self._shots):
                self._watch(FIRST_LOOK if self._staying else min(2 * pause, LONGEST_LOOK))

        self._watching = True
        self._firing.later(pause, look)

    def _read_ranks(self) -> None:
        for record in self._dialogue.hear():
            if record["event"] in ("found", "reached"):
                self._hear_place(record)
                continue
            for shot in self._shots:
                if shot.of(record):
                    self._hear(shot, record)
        for shot in self._open():
            if shot.inside and shot.due:
                self._tell(shot)
        for reached, pid in list(self._staying.items()):
            if not self._gates.keep(reached) and not any(shot.stays_for(reached) for shot in self._shots):
                del self._staying[reached]
                told = {"fault": reached.fault, "watch": reached.watch, "n": reached.n}
                again = self._gates.again(reached)
                over = not again and not any(shot.fault.id == reached.fault for shot in self._open())
                self._firing.write("go_on", rank=reached.rank, to=pid, **told, over=over)

    def _hear_place(self, record: Record) -> None:
        """A rank has come to something that is watched, and stays there; or has found what it is to watch."""
        rank, fault, watch, n, pid = (record.get(key) for key in ("rank", "fault", "watch", "n", "by"))
        if not (isinstance(rank, int) and isinstance(watch, int)):
            return
        if not (isinstance(n, int) and isinstance(pid, int)):
            self._tell_all(Found(rank, str(fault), watch))
            return
        reached = Reached(rank, str(fault), watch, n)
        self._staying[reached] = pid
        self._gates.arrive(reached)
        self._tell_all(reached)

    def _hear(self, shot: Shot, record: Record) -> None:
        """Take in what a rank wrote about a fault of its own."""
        shot.aim.records.append(record)
        if record["event"] == "failed":
            self._firing.end(shot, Errored(f"the rank could not do it: {record.get('what')}"))
        elif record["event"] == "impossible":
            self._firing.end(shot, Unavailable(f"in rank {shot.rank}: {record.get('why')}"))
        elif record["event"] == "start" and shot.result is None and not shot.acted:
            shot.acted, shot.acted_at = 1, float(str(record["at"]))
            self._firing.take(shot, lambda: shot.entry.inject(shot.aim))
            self._watch()

    def _open(self, rank: int | None = None) -> list[Shot]:
        return [shot for shot in self._shots if shot.result is None and rank in (None, shot.rank)]

    def _break(self, error: Exception) -> None:
        self._broken = thrown(error).what
        for shot in self._open():
            self._firing.end(shot, Errored(f"the driver broke: {self._broken}"))


def _attempt(env: Mapping[str, str]) -> int:
    """Which restart a rank is."""
    told = env.get("TORCHELASTIC_RESTART_COUNT", "")
    return int(told) if told.isdigit() else 0
