"""From the fates of the ranks to the result of the job: failures, values, and which rank is to blame."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from derail.errors.failure import ProcessFailure
from derail.errors.protocol import ErrorRecord, identify, read
from derail.errors.text import neutral, printable
from derail.logs.sinks import tail_of
from derail.model.exit import UNKNOWN_RETURNCODE
from derail.model.outcome import Cause, JobOutcome, RunProcsResult, fields_of
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

LONG_BEFORE = 60.0
"""Seconds before the start of the job: an error file that is older, and was not seen being recorded, is of no rank.
A smaller difference may be that of a file server's clock."""

SHORT = 200
"""Characters of a recorded error that the outcome of a rank keeps."""

TAIL_LINES = 20
"""Last lines of stderr that a failure's text shows."""

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
    stale: dict[int, Identity | None] = {}
    for rank, fate in list(fates.items()):
        if not fate.succeeded and (fate.recorded or _has_error_file(specs[rank])):
            stale[rank] = _stale(found, specs[rank], fate, clock)
            said = " ".join(_recorded(specs[rank], fate, stale[rank]).split())
            if said:
                fates[rank] = replace(fate, recorded=neutral(printable(said, SHORT)))
    outcome = _outcome(found, fates, clock)
    rivals = {outcome.root_cause: outcome.root_cause_rivals}
    failures = {
        rank: _failure(
            specs[rank],
            fates[rank],
            reasons.get(rank, ""),
            stale.get(rank, found.stale.get(rank)),
            clock,
            rivals=rivals.get(rank, ()),
        )
        for rank in outcome.failed
    }
    return RunProcsResult(
        return_values=values,
        failures=failures,
        stdouts={rank: os.fspath(spec.streams.stdout or "") for rank, spec in specs.items()},
        stderrs={rank: os.fspath(spec.streams.stderr or "") for rank, spec in specs.items()},
        **fields_of(outcome),
    )


def _has_error_file(spec: RankSpec) -> bool:
    """Whether anything lies there: most ranks that are stopped have none."""
    return spec.error_file is not None and os.path.lexists(spec.error_file)


def _value(spec: RankSpec, handle: ProcessHandle) -> Returned | NotReturned:
    if isinstance(spec.run, Function):
        result: Returned | NotReturned = handle.result()  # type: ignore[attr-defined]
        return result
    return Returned(None)


def _outcome(found: Harvest, fates: dict[int, RankOutcome], clock: Clock) -> JobOutcome:
    failed = [fate for fate in fates.values() if fate.failed]
    by_itself = sorted((f.evidence_order, f.rank) for f in failed if f.evidence_order is not None)
    by_exit = sorted((f.exit_order, f.rank) for f in failed if f.cause is Cause.SELF and f.exit_order is not None)
    abandoned = sorted(f.rank for f in failed if f.cause is Cause.ABANDONED)
    root = by_itself[0][1] if by_itself else by_exit[0][1] if by_exit else abandoned[0] if abandoned else None
    rivals = () if root is None else found.policy.rivals(root)
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
        root_cause_rivals=tuple(rank for rank in rivals if fates[rank].failed),
    )


def _stale(found: Harvest, spec: RankSpec, fate: RankOutcome, clock: Clock) -> Identity | None:
    """The error file that is not this rank's: what lay there before the start, or was put there since, and is older.

    A rank may set the time of its file. So the time counts only if the launcher saw no record of the rank.
    """
    now = None if spec.error_file is None or fate.recorded_at is not None else identify(spec.error_file)
    # Files have no other clock than the wall's. A step of it, in whatever direction, makes no file older than both.
    started = min(found.started_wall, clock.wall() - (clock.now() - found.started_at))
    old = now is not None and now.mtime_ns < (started - LONG_BEFORE) * 1e9
    return now if old else found.stale.get(spec.rank)


def _recorded(spec: RankSpec, fate: RankOutcome, stale: Identity | None) -> str:
    """What the error file of a rank says, in a line: what was seen while it ran, unless its file says more now."""
    record = None if spec.error_file is None else read(spec.error_file, stale=stale)
    if not isinstance(record, ErrorRecord):
        return fate.recorded
    said = record.message
    if record.pid not in (None, fate.pid):
        said = f"{said} (recorded by process {record.pid}, not by the rank itself)"
    return said if fate.recorded in ("", record.message) else f"{fate.recorded}; later: {said}"


def _failure(
    spec: RankSpec,
    fate: RankOutcome,
    reason: str,
    stale: Identity | None,
    clock: Clock,
    *,
    rivals: tuple[int, ...],
) -> ProcessFailure:
    if fate.status is None:
        reason = "abandoned: it was still there after SIGKILL; it may be in uninterruptible sleep"
    elif fate.status.ok:
        reason = reason or "it left with code 0 without returning a value"
    elif fate.status.lost:
        reason = str(fate.status)
    if fate.cause is not Cause.STOPPED_BY_US and fate.recorded_at is not None and fate.signalled_at is not None:
        after = max(0.0, fate.signalled_at - fate.recorded_at) * 1000
        reason = _joined(reason, f"it had recorded its error {after:.0f} ms before it was sent a signal to stop")
    if "; later: " in fate.recorded:
        reason = _joined(reason, f"what it recorded: {fate.recorded}")
    if rivals:
        names = ", ".join(f"rank {rank}" for rank in rivals)
        reason = _joined(reason, f"its order is uncertain: {names} may have failed before it, the kernel does not tell")
    seen = clock.wall() if fate.exited_at is None else clock.wall() - (clock.now() - fate.exited_at)
    return ProcessFailure(
        local_rank=fate.rank,
        pid=fate.pid,
        exitcode=UNKNOWN_RETURNCODE if fate.status is None else fate.status.returncode,
        error_file="" if spec.error_file is None else os.fspath(spec.error_file),
        status=fate.status,
        seen_at=seen,
        order=_order(fate),
        stderr_tail="" if spec.streams.stderr is None else tail_of(spec.streams.stderr, lines=TAIL_LINES),
        stale=stale,
        reason=reason,
        stack=fate.stack,
    )


def _order(fate: RankOutcome) -> int:
    known = fate.exit_order if fate.evidence_order is None else fate.evidence_order
    return NEVER_ENDED + fate.rank if known is None else known


def _joined(reason: str, more: str) -> str:
    return f"{reason}; {more}" if reason else more
