"""From the fates of the ranks to the result of the job: failures, values, and which rank is to blame."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from derail.errors.failure import ProcessFailure
from derail.errors.protocol import identify
from derail.logs.sinks import tail_of
from derail.model.exit import UNKNOWN_RETURNCODE
from derail.model.outcome import Cause, JobOutcome, RunProcsResult
from derail.model.spec import Function
from derail.spawn.handle import NotReturned, Returned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from derail.errors.protocol import Identity
    from derail.model.clock import Clock
    from derail.model.outcome import Leftover, RankOutcome
    from derail.model.spec import JobSpec, RankSpec
    from derail.spawn.handle import ProcessHandle
    from derail.supervise.policy import Policy

TAIL_LINES = 20
"""Last lines of stderr that a failure's text shows."""

LONG_BEFORE = 60.0
"""Seconds before the start of the job: an error file that is older tells of no rank of it. Less may be a file server's
clock."""

NEVER_ENDED = 1 << 32
"""Ranks that had to be abandoned come after all that ended, in the order of failures."""


@dataclass(frozen=True, slots=True)
class Harvest:
    """What there is when a job is over, before it is judged."""

    spec: JobSpec
    policy: Policy
    handles: Mapping[int, ProcessHandle]
    stale: Mapping[int, Identity]
    stacks: dict[int, str]
    leftovers: tuple[Leftover, ...]
    console_missed: int
    timed_out: bool
    started_at: float
    started_wall: float


def harvest(found: Harvest, clock: Clock) -> RunProcsResult:
    """Build the result. Reads error files and stderr tails; never raises because of what is in them."""
    fates = found.policy.outcomes(found.stacks)
    specs = {rank.rank: rank for rank in found.spec.ranks}
    values: dict[int, Any] = {}
    reasons: dict[int, str] = {}
    for rank, fate in list(fates.items()):
        because = getattr(found.handles[rank], "spawned_because", "")
        if because:
            fates[rank] = replace(fate, spawned_because=because)
        value = _value(specs[rank], found.handles[rank])
        if isinstance(value, NotReturned):
            if fate.succeeded:  # it was sent, but cannot be received
                fates[rank] = replace(fates[rank], succeeded=False)
            reasons[rank] = value.reason
        elif fate.succeeded:
            values[rank] = value.value
    outcome = _outcome(found, fates, clock)
    failures = {
        rank: _failure(specs[rank], fates[rank], reasons.get(rank, ""), _stale(found, specs[rank], clock), clock)
        for rank in outcome.failed
    }
    return RunProcsResult(
        return_values=values,
        failures=failures,
        stdouts={rank: os.fspath(spec.streams.stdout or "") for rank, spec in specs.items()},
        stderrs={rank: os.fspath(spec.streams.stderr or "") for rank, spec in specs.items()},
        stopped={rank: fates[rank] for rank in outcome.stopped},
        outcome=outcome,
    )


def _value(spec: RankSpec, handle: ProcessHandle) -> Returned | NotReturned:
    if isinstance(spec.run, Function):
        result: Returned | NotReturned = handle.result()  # type: ignore[attr-defined]
        return result
    return Returned(None)


def _outcome(found: Harvest, fates: dict[int, RankOutcome], clock: Clock) -> JobOutcome:
    failed = [fate for fate in fates.values() if fate.failed]
    by_itself = sorted((f.exit_order, f.rank) for f in failed if f.cause is Cause.SELF and f.exit_order is not None)
    abandoned = sorted(f.rank for f in failed if f.cause is Cause.ABANDONED)
    root = by_itself[0][1] if by_itself else abandoned[0] if abandoned else None
    now = clock.now()
    exits = [fate.exited_at for fate in fates.values() if fate.exited_at is not None]
    return JobOutcome(
        ranks=fates,
        root_cause=root,
        started_at=found.started_at,
        ended_at=now if abandoned or not exits else max(exits),
        stop_requested_at=found.policy.stop_requested_at,
        stop_reason=found.policy.stop_reason,
        timed_out=found.timed_out,
        leftovers=found.leftovers,
        console_missed=found.console_missed,
    )


def _stale(found: Harvest, spec: RankSpec, clock: Clock) -> Identity | None:
    """The error file that is not this rank's: what lay there before the start, or was put there since, and is older."""
    now = None if spec.error_file is None else identify(spec.error_file)
    # Files have no other clock than the wall's. A step of it, in whatever direction, makes no file older than both.
    started = min(found.started_wall, clock.wall() - (clock.now() - found.started_at))
    old = now is not None and now.mtime_ns < (started - LONG_BEFORE) * 1e9
    return now if old else found.stale.get(spec.rank)


def _failure(spec: RankSpec, fate: RankOutcome, reason: str, stale: Identity | None, clock: Clock) -> ProcessFailure:
    if fate.status is None:
        reason = "abandoned: it was still there after SIGKILL; it may be in uninterruptible sleep"
    elif fate.status.ok:
        reason = reason or "it left with code 0 without returning a value"
    elif fate.status.lost:
        reason = str(fate.status)
    seen = clock.wall() if fate.exited_at is None else clock.wall() - (clock.now() - fate.exited_at)
    return ProcessFailure(
        local_rank=fate.rank,
        pid=fate.pid,
        exitcode=UNKNOWN_RETURNCODE if fate.status is None else fate.status.returncode,
        error_file="" if spec.error_file is None else os.fspath(spec.error_file),
        status=fate.status,
        seen_at=seen,
        order=fate.exit_order if fate.exit_order is not None else NEVER_ENDED + fate.rank,
        stderr_tail="" if spec.streams.stderr is None else tail_of(spec.streams.stderr, lines=TAIL_LINES),
        stale=stale,
        reason=reason,
        stack=fate.stack,
    )
