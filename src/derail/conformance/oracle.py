"""Facts of a job in a rehearsal, and errors in its launcher's report about them. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derail.model.exit import ExitStatus

if TYPE_CHECKING:
    from derail.conformance.adapter import LauncherReport, Promises
    from derail.conformance.scripted_ranks import Answer, ScriptedRanks
    from derail.faults.model.plan import Fault

_BY_LAUNCHER = (ExitStatus(signal=int(signal.SIGTERM)), ExitStatus(signal=int(signal.SIGKILL)))


@dataclass(frozen=True, slots=True)
class Death:
    """End of a rank that the launcher has not caused, or not for certain.

    Attributes:
        rank: number of the rank.
        status: its exit status if it ended by itself.
        failed: whether that was a failure.
        certain: whether it ended by itself: the launcher had no failure to react to, or could not act.
        turn: number of the death; simultaneous deaths, in an unknown order, share one.
    """

    rank: int
    status: ExitStatus
    failed: bool
    certain: bool
    turn: int


@dataclass(slots=True)
class Job:
    """State of one job.

    Attributes:
        scripted: its ranks.
        faults: the actions on them, in order.
        deaths: the ranks that have ended by themselves, in order.
        answers: reactions to SIGTERM, if not the default one.
        paused: ranks stopped by SIGSTOP.
        held: whether the launcher ignores events at the moment.
        stopped: whether the launcher was asked to stop the job.
        over: whether the job is over.
    """

    scripted: ScriptedRanks
    faults: list[Fault] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    held: bool = False
    stopped: bool = False
    over: bool = False

    @property
    def living(self) -> list[int]:
        """Ranks without an order to end."""
        dead = {death.rank for death in self.deaths}
        return [rank for rank in range(self.scripted.ranks) if rank not in dead]

    @property
    def failing(self) -> bool:
        """Whether a rank has failed."""
        return any(death.failed for death in self.deaths)

    @property
    def calm(self) -> bool:
        """Whether the launcher has no reason to end a rank, or cannot act on it: ranks still take orders."""
        return self.held or not self.failing

    @property
    def first(self) -> list[Death]:
        """First failures: one, or several that were simultaneous."""
        failures = [death for death in self.deaths if death.failed]
        return [death for death in failures if death.turn == failures[0].turn]


def violations(job: Job, report: LauncherReport, promises: Promises) -> list[str]:
    """Return the errors in a launcher's report about a finished job, and its leftovers.

    A failure that the launcher may have caused itself, because it reacted to another one, need not be reported. A
    report that leaves the order of two failures open does not blame the wrong one.
    """
    problems = [f"{left} outlived the job" for left in job.scripted.left()]
    if promises.helpers:
        problems += [f"{left} outlived the job" for left in job.scripted.helpers_left()]
    if job.stopped and not promises.after_stop:
        return problems
    return [
        *problems,
        *_not_told(job, report),
        *_innocent(job, report, promises),
        *_blame(job, report, promises),
        *_stops(job, report),
    ]


def _not_told(job: Job, report: LauncherReport) -> list[str]:
    problems = []
    for death in job.deaths:
        if not (death.failed and death.certain):
            continue
        if death.rank not in report.failed:
            first = ", before all others" if job.first == [death] else ""
            problems.append(f"rank {death.rank} failed by itself ({death.status}{first}), which is not reported")
        elif not _same(report.failed[death.rank], death.status):
            problems.append(f"rank {death.rank}: expected {death.status}, got {report.failed[death.rank]}")
    if job.first and not problems and not any(_same(report.failed.get(one.rank), one.status) for one in job.first):
        ranks = " or ".join(f"rank {death.rank} ({death.status})" for death in job.first)
        problems.append(f"{ranks} failed by itself before all others, and neither is reported")
    return problems


def _innocent(job: Job, report: LauncherReport, promises: Promises) -> list[str]:
    if not promises.bystanders:
        return []
    guilty = {death.rank for death in job.deaths if death.failed or not death.certain}
    return [
        f"rank {rank} is reported as failed ({status}), and it had not failed"
        for rank, status in report.failed.items()
        if rank not in guilty
    ]


def _blame(job: Job, report: LauncherReport, promises: Promises) -> list[str]:
    root = report.root_cause
    if not job.first and (root is None or not promises.bystanders):
        return []
    failures = job.first if promises.order else [death for death in job.deaths if death.failed]
    allowed = sorted({death.rank for death in failures})
    if root in allowed or not set(allowed).isdisjoint(report.rivals):
        return []
    wanted = " or ".join(f"rank {rank}" for rank in allowed) or "none"
    return [f"expected root cause {wanted}, got {'none' if root is None else f'rank {root}'}"]


def _stops(job: Job, report: LauncherReport) -> list[str]:
    """Return the errors in the report about ranks that the launcher has ended itself."""
    if report.stopped is None:
        return []
    deaths = {death.rank: death for death in job.deaths}
    problems = [
        f"rank {rank} was stopped by the launcher, which is not reported"
        for rank in job.living
        if rank not in report.stopped
    ]
    for rank, status in report.stopped.items():
        death = deaths.get(rank)
        if death is not None and death.certain:
            problems.append(f"rank {rank} is reported as stopped, and it had ended by itself ({death.status})")
            continue
        answer = [ExitStatus(code=0)] if job.answers.get(rank) == "leaves" else []
        own = [] if death is None else [death.status]
        if not any(_same(status, possible) for possible in (*_BY_LAUNCHER, *answer, *own)):
            problems.append(f"rank {rank} was stopped, and cannot have ended with {status} then")
    return problems


def _same(reported: ExitStatus | None, actual: ExitStatus) -> bool:
    """Return whether two exit statuses are the same, ignoring core files."""
    return reported is not None and (reported.code, reported.signal) == (actual.code, actual.signal)
