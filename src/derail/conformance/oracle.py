"""What has really happened in a job of a rehearsal, and what is wrong in what its launcher tells of it. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derail.model.exit import ExitStatus

if TYPE_CHECKING:
    from derail.conformance.adapter import Promises, Told
    from derail.conformance.scripted_ranks import Answer, Crew
    from derail.faults.model.plan import Fault

_BY_LAUNCHER = (ExitStatus(signal=int(signal.SIGTERM)), ExitStatus(signal=int(signal.SIGKILL)))


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a rank that the launcher has not caused, or not for certain.

    Attributes:
        rank: whose.
        status: how it has ended if it has done so by itself.
        failed: whether that was a failure.
        certain: whether it has: the launcher knew of no failure yet, or could not act.
        turn: which of the deaths; those that came together, in an order that nobody knows, have the same.
    """

    rank: int
    status: ExitStatus
    failed: bool
    certain: bool
    turn: int


@dataclass(slots=True)
class Job:
    """What has happened in one job so far.

    Attributes:
        crew: its ranks.
        faults: what was done to them, in order.
        deaths: which of them have ended by themselves, in order.
        answers: what ranks do at SIGTERM, if not what any program does.
        paused: ranks that SIGSTOP has stopped.
        held: whether the launcher takes no notice at the moment.
        stopped: whether the launcher was asked for the end.
        over: whether the job is.
    """

    crew: Crew
    faults: list[Fault] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    held: bool = False
    stopped: bool = False
    over: bool = False

    @property
    def living(self) -> list[int]:
        """Ranks that nobody has told to end."""
        dead = {death.rank for death in self.deaths}
        return [rank for rank in range(self.crew.ranks) if rank not in dead]

    @property
    def failing(self) -> bool:
        """Whether a rank has failed."""
        return any(death.failed for death in self.deaths)

    @property
    def calm(self) -> bool:
        """Whether the launcher has no reason to end anybody, or cannot act on it: ranks still take orders."""
        return self.held or not self.failing

    @property
    def first(self) -> list[Death]:
        """The first failures: one, or several that came together."""
        failures = [death for death in self.deaths if death.failed]
        return [death for death in failures if death.turn == failures[0].turn]


def violations(job: Job, told: Told, promises: Promises) -> list[str]:
    """What is wrong in what a launcher told of a job that is over, and in what it left.

    A failure that it may have caused itself, because it knew of another one and could act, need not be told.
    """
    found = [f"{left} outlived the job" for left in job.crew.left()]
    if promises.helpers:
        found += [f"{left} outlived the job" for left in job.crew.helpers_left()]
    if job.stopped and not promises.after_stop:
        return found
    return [
        *found,
        *_not_told(job, told),
        *_innocent(job, told, promises),
        *_blame(job, told, promises),
        *_stops(job, told),
    ]


def _not_told(job: Job, told: Told) -> list[str]:
    found = []
    for death in job.deaths:
        if not (death.failed and death.certain):
            continue
        if death.rank not in told.failed:
            first = ", before all others" if job.first == [death] else ""
            found.append(f"rank {death.rank} failed by itself ({death.status}{first}), which is not told")
        elif not _same(told.failed[death.rank], death.status):
            found.append(f"rank {death.rank} ended with {death.status}, and {told.failed[death.rank]} is told")
    if job.first and not any(_same(told.failed.get(death.rank), death.status) for death in job.first) and not found:
        ranks = " or ".join(f"rank {death.rank} ({death.status})" for death in job.first)
        found.append(f"{ranks} failed by itself before all others, and neither is told")
    return found


def _innocent(job: Job, told: Told, promises: Promises) -> list[str]:
    if not promises.bystanders:
        return []
    guilty = {death.rank for death in job.deaths if death.failed or not death.certain}
    return [
        f"rank {rank} is told to have failed ({status}), and it had not"
        for rank, status in told.failed.items()
        if rank not in guilty
    ]


def _blame(job: Job, told: Told, promises: Promises) -> list[str]:
    root = told.root_cause
    if not job.first and (root is None or not promises.bystanders):
        return []
    failures = job.first if promises.order else [death for death in job.deaths if death.failed]
    allowed = sorted({death.rank for death in failures})
    if root in allowed:
        return []
    wanted = " or ".join(f"rank {rank}" for rank in allowed) or "nobody"
    return [f"{wanted} was to be blamed, and {'nobody' if root is None else f'rank {root}'} is"]


def _stops(job: Job, told: Told) -> list[str]:
    """What is wrong in what is told of the ranks that the launcher has ended itself."""
    if told.stopped is None:
        return []
    deaths = {death.rank: death for death in job.deaths}
    found = [
        f"rank {rank} was stopped by the launcher, which is not told" for rank in job.living if rank not in told.stopped
    ]
    for rank, status in told.stopped.items():
        death = deaths.get(rank)
        if death is not None and death.certain:
            found.append(f"rank {rank} is told to have been stopped, and it had ended by itself ({death.status})")
            continue
        answer = [ExitStatus(code=0)] if job.answers.get(rank) == "leaves" else []
        own = [] if death is None else [death.status]
        if not any(_same(status, possible) for possible in (*_BY_LAUNCHER, *answer, *own)):
            found.append(f"rank {rank} was stopped, and cannot have ended with {status} then")
    return found


def _same(told: ExitStatus | None, known: ExitStatus) -> bool:
    """Whether two ends are the same, but for a core file."""
    return told is not None and (told.code, told.signal) == (known.code, known.signal)
