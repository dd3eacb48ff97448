"""Job observer that carries out a plan: it evaluates triggers, injects, verifies, writes the journal and heals.

Each fault on each rank passes these states: waiting -> due -> journal ``start`` -> inject -> verify on the target ->
journal ``end``. A ``start`` without an ``end`` means an unknown result. No failure is silent: an injector that raises
ends as ``errored``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from derail.faults.catalogue.injector_api import Aim
from derail.faults.engine import prepare as preparing
from derail.faults.engine.execution import Injection
from derail.faults.engine.injector_runner import FIRST_LOOK, LONGEST_LOOK, InjectorRunner, thrown
from derail.faults.engine.journal import Journal
from derail.faults.engine.rank_channel import RankChannel
from derail.faults.engine.steps import Steps
from derail.faults.engine.sync_points import SyncPoints
from derail.faults.engine.trigger_matcher import Elapsed, Found, Reached, Setting, condition
from derail.faults.model.results import Errored, FaultResult, NotReached, Unavailable
from derail.faults.model.targets import AGENT_RANK, resolve
from derail.faults.model.triggers import After, Line, walk
from derail.faults.registry import entry
from derail.model.events import Exited, Finished, LineSeen, SignalSent, Started, ValueReceived
from derail.platform.handshake import PrivateDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from derail.faults.engine.journal import Record
    from derail.faults.engine.sync_points import SyncPoint
    from derail.faults.engine.trigger_matcher import Occasion
    from derail.faults.model.plan import Plan
    from derail.faults.model.triggers import Data
    from derail.model.events import Event, JobControl
    from derail.model.spec import JobSpec


class Driver:
    """Observer that carries out a plan on one run of one job.

    Use it once. ``run`` describes the ranks' programs, so that the journal is enough to repeat the run. With ``agent``,
    the agent's events carry the rank number ``AGENT_RANK``. Each rank may be restarted up to ``restarts`` times, and
    each restart emits ``Started``: a fault that was not injected before the exit may be injected afterwards, and an
    injected fault stays injected. ``steps`` is a regular expression of step lines, with the number as its group: the
    journal gets the first and the last step of each process. ``temporary`` is the parent of the private directory.

    Attributes:
        sockets: the private directory for the job's sockets.
        wants_lines: whether a trigger of the plan waits for a line, or step lines are recorded.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        journal: Path,
        run: Mapping[str, Data] | None = None,
        sync_points: Collection[SyncPoint] = (),
        agent: bool = False,
        restarts: int = 0,
        steps: str = "",
        temporary: Path | None = None,
    ) -> None:
        self.plan = plan
        self.sockets = PrivateDirectory(temporary)
        self._agent = (AGENT_RANK,) if agent else ()
        self._restarts = restarts
        self._sync_points = SyncPoints(sync_points)
        self._run = run
        self.journal = Journal(journal)
        self._steps = Steps(steps)
        waits = any(isinstance(part, Line) for fault in plan.faults for part in walk(fault.when))
        self.wants_lines = waits or bool(steps)
        self._channel = RankChannel(self.journal)
        self._injections: list[Injection] = []
        self._line_listeners: list[Injection] = []
        self._control: JobControl | None = None
        self._started_runner: InjectorRunner | None = None
        self._started: dict[int, float] = {}
        self._sent: dict[int, list[int]] = {}
        self._values: dict[int, list[float]] = {}
        self._attempts: dict[int, int] = {}
        self._staying: dict[Reached, int] = {}
        self._watching = False
        self._planned = False
        self._broken = ""
        self._job = ""

    def prepare(self, spec: JobSpec) -> JobSpec:
        """Return the job with all that its in-rank faults need, and create the journal so that ranks can write to it.

        A job of several attempts is prepared for each; for ranks and journal they are one job.

        Raises:
            InputError: if the plan cannot be carried out on this job.
            OSError: if the journal cannot be written.
        """
        self._job = self._job or spec.job_id
        prepared = preparing.prepare(
            self.plan,
            replace(spec, job_id=self._job),
            journal=self.journal.path,
            sync_points=self._sync_points,
            sockets=self.sockets,
            first=not self._planned,
        )
        if not self._planned:
            self._attempts = {rank.rank: _attempt(rank.env) for rank in spec.ranks}
        self._write_plan(tuple(rank.rank for rank in spec.ranks))
        self._channel.prepared(spec)
        return replace(prepared, job_id=spec.job_id)

    def results(self) -> tuple[FaultResult, ...]:
        """Return the result of each fault on each rank, in plan order; final once the job has finished."""
        if not self._injections:
            why = self._broken or "the job was never started"
            return tuple(FaultResult(fault, None, NotReached(why)) for fault in self.plan.faults)
        return tuple(injection.report() for injection in self._injections)

    def attach(self, control: JobControl) -> None:
        """Resolve the targets of every fault, and end each fault that this machine cannot inject as unavailable."""
        self._control, self._started_runner = control, InjectorRunner(control, self.journal, self._break)
        try:
            self._write_plan(control.ranks)
            self._aim(control)
        except Exception as error:  # a job drops an observer that raises, silently; faults must not vanish with it
            self._break(error)

    def observe(self, event: Event) -> None:
        """Process one event of the job, and act on each fault that is now due."""
        try:
            for record in self._steps.records(event):
                self._runner.write(**record)
            self._runner.note(event)
            match event:
                case Started():
                    self._on_started(event)
                case SignalSent():
                    self._sent.setdefault(event.rank, []).append(event.signal)
                case ValueReceived():
                    self._values.setdefault(event.rank, []).append(event.at)
                    self._sync_points.end(event.rank, "returned")
                case Exited():
                    self._on_exited(event)
                case Finished():
                    self._on_finished()
                case _:
                    self._tell_all(event)
        except Exception as error:  # a job drops an observer that raises, silently; faults must not vanish with it
            self._break(error)

    def heal(self) -> None:
        """Undo each change that can be undone and is still in place, newest first.

        Call it from the job's thread, or after that thread has ended. If supervision failed, this is the only call that
        heals.
        """
        for injection in reversed(self._injections):
            self._runner.heal(injection)
        self.sockets.close()

    @property
    def _runner(self) -> InjectorRunner:
        assert self._started_runner is not None, "attach() comes before the first event"
        return self._started_runner

    def _write_plan(self, ranks: tuple[int, ...]) -> None:
        if not self._planned:
            self._channel.begin()
            self.journal.write_plan(self.plan, ranks, self._run)
            self._planned = True

    def _aim(self, control: JobControl) -> None:
        for fault in self.plan.faults:
            known = entry(fault.name)
            for rank in resolve(self.plan, fault, (*control.ranks, *self._agent)):
                aim = Aim(fault, rank, self.plan.seed, control, sent_by_supervisor=self._sent.setdefault(rank, []))
                aim.values, aim.sockets = self._values.setdefault(rank, []), self.sockets
                setting = Setting(fault.id, rank, self.plan.seed, control.ranks, self._attempts, self._wake)
                injection = Injection(fault, rank, known, aim, condition(fault.when, setting))
                self._injections.append(injection)
                if not isinstance(fault.when, After):  # schedules have thousands of those, and jobs write many lines
                    self._line_listeners.append(injection)
                reason = known.requires.unavailable()
                if reason:
                    self._runner.end(injection, Unavailable(reason))
                else:
                    self._get_ready(injection, known.setup.await_rank)

    def _wake(self, seconds: float, condition: object) -> None:
        self._runner.later(seconds, lambda: self._tell_all(Elapsed(condition)))

    def _on_started(self, event: Started) -> None:
        if event.rank in self._started:
            self._attempts[event.rank] = self._attempts.get(event.rank, 0) + 1
            self._channel.forget(event.rank)
            self._sent.setdefault(event.rank, []).clear()
        self._started[event.rank] = event.at
        for injection in self._open(event.rank):
            self._get_ready(injection, injection.entry.setup.begin)
        if self._sync_points or any(injection.waits_for_rank or injection.inside for injection in self._open()):
            self._channel.started(event.rank, event.pid)
            self._watch()
        self._tell_all(event)

    def _tell_all(self, occasion: Occasion) -> None:
        """Mark each fault as due if this occasion fires its trigger."""
        possible = self._line_listeners if isinstance(occasion, LineSeen) else self._injections
        for injection in [each for each in possible if each.result is None]:
            if injection.condition.hear(occasion):
                if isinstance(occasion, LineSeen):
                    where = {"rank": occasion.rank, "stream": occasion.stream, "text": occasion.text}
                    self._runner.write("line", **where, fault=injection.fault.id)
                self._due(injection)

    def _get_ready(self, injection: Injection, how: Callable[[Aim], None]) -> None:
        try:
            how(injection.aim)
        except Exception as error:  # this fault can no longer be verified; the others can
            self._runner.end(injection, thrown(error))

    def _on_exited(self, event: Exited) -> None:
        self._read_ranks()
        self._staying = {reached: pid for reached, pid in self._staying.items() if reached.rank != event.rank}
        self._sync_points.end(event.rank, f"ended with {event.status}")
        self._tell_all(event)
        again = event.rank != AGENT_RANK and self._attempts.get(event.rank, 0) < self._restarts
        for injection in [] if again else self._open():
            if injection.rank != event.rank and not injection.due and injection.condition.hopeless(event.rank):
                ended = f"rank {event.rank} ended with {event.status} before it arrived"
                self._runner.end(injection, NotReached(f"{injection.condition.missed()}; {ended}"))
        for injection in self._open(event.rank):
            if injection.result is None and (injection.acted or injection.told or not again):
                lived = event.at - self._started.get(event.rank, event.at)
                silent = self._channel.why_silent(event.rank, event.status)
                try:
                    result = injection.result_at_exit(event.status, lived, silent)
                except Exception as error:  # the check of the target failed: that is no evidence
                    result = thrown(error)
                self._runner.end(injection, result)

    def _on_finished(self) -> None:
        self._read_ranks()
        for injection in self._open():
            self._runner.end(injection, injection.result_at_end())
        self._sync_points.finish()
        self.heal()

    def _due(self, injection: Injection) -> None:
        if injection.own or injection.result is not None or (injection.due and not injection.each_time):
            return
        if self._control is None or self._control.pid(injection.rank) is None:
            self._runner.end(
                injection, NotReached(f"due ({injection.fault.when}), but its rank had not been started yet")
            )
            return
        again, injection.due = injection.due, True
        if injection.inside:
            self._read_ranks()
            self._tell(injection)
            self._watch()
        elif again and injection.awaits is not None:
            injection.waiting.append(injection.condition.hit)
        elif injection.acted < injection.fault.times:
            self._runner.act(injection, injection.condition.hit)

    def _tell(self, injection: Injection) -> None:
        """Notify the rank's runtime of a due fault, now or once the runtime listens."""
        if (
            self._control is None
            or injection.told
            or injection.result is not None
            or not self._channel.listens(injection.rank)
        ):
            return
        injection.told = True
        try:
            prevented = self._channel.tell(
                injection.rank, injection.fault.id, self._control, hit=injection.condition.hit
            )
        except OSError as error:
            prevented = Errored(f"not injected: cannot write the journal: {error}")
        if prevented is not None:
            self._runner.end(injection, prevented)
            return

        def answered() -> bool:
            self._read_ranks()
            return injection.acted > 0 or injection.result is not None

        self._channel.wake_again(injection.rank, self._control, later=self._runner.later, answered=answered)

    def _watch(self, pause: float = FIRST_LOOK) -> None:
        """Poll the journal while a rank may still write a record that the driver needs."""
        if self._watching:
            return

        def look() -> None:
            self._watching = False
            self._read_ranks()
            if self._sync_points or self._staying or any(injection.waits_for_rank for injection in self._injections):
                self._watch(FIRST_LOOK if self._staying else min(2 * pause, LONGEST_LOOK))

        self._watching = True
        self._runner.later(pause, look)

    def _read_ranks(self) -> None:
        for record in self._channel.hear():
            if record["event"] in ("found", "reached"):
                self._hear_place(record)
                continue
            for injection in self._injections:
                if injection.of(record):
                    self._hear(injection, record)
        for injection in self._open():
            if injection.inside and injection.due:
                self._tell(injection)
        for reached, pid in list(self._staying.items()):
            if not self._sync_points.keep(reached) and not any(
                injection.stays_for(reached) for injection in self._injections
            ):
                del self._staying[reached]
                told = {"fault": reached.fault, "watch": reached.watch, "n": reached.n}
                again = self._sync_points.again(reached)
                over = not again and not any(injection.fault.id == reached.fault for injection in self._open())
                self._runner.write("go_on", rank=reached.rank, to=pid, **told, over=over)

    def _hear_place(self, record: Record) -> None:
        """Process a rank's report that it waits at a watched place, or has resolved the place to watch."""
        rank, fault, watch, n, pid = (record.get(key) for key in ("rank", "fault", "watch", "n", "by"))
        if not (isinstance(rank, int) and isinstance(watch, int)):
            return
        if not (isinstance(n, int) and isinstance(pid, int)):
            self._tell_all(Found(rank, str(fault), watch))
            return
        reached = Reached(rank, str(fault), watch, n)
        self._staying[reached] = pid
        self._sync_points.arrive(reached)
        self._tell_all(reached)

    def _hear(self, injection: Injection, record: Record) -> None:
        """Process a rank's record about a fault of that rank."""
        injection.aim.records.append(record)
        if record["event"] == "failed":
            self._runner.end(injection, Errored(f"the rank failed to inject it: {record.get('what')}"))
        elif record["event"] == "impossible":
            self._runner.end(injection, Unavailable(f"in rank {injection.rank}: {record.get('why')}"))
        elif record["event"] == "start" and injection.result is None and not injection.acted:
            injection.acted, injection.acted_at = 1, float(str(record["at"]))
            self._runner.take(injection, lambda: injection.entry.inject(injection.aim))
            self._watch()

    def _open(self, rank: int | None = None) -> list[Injection]:
        return [
            injection for injection in self._injections if injection.result is None and rank in (None, injection.rank)
        ]

    def _break(self, error: Exception) -> None:
        self._broken = thrown(error).what
        for injection in self._open():
            self._runner.end(injection, Errored(f"internal error of the fault driver: {self._broken}"))


def _attempt(env: Mapping[str, str]) -> int:
    """Return the restart number in a rank's environment: 0 for its first start."""
    told = env.get("TORCHELASTIC_RESTART_COUNT", "")
    return int(told) if told.isdigit() else 0
