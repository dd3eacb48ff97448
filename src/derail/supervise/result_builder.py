"""The result of a job, built from the outcomes of its ranks: failures, return values, and the root cause."""

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
"""Seconds before the start of the job: an older error file, not observed while it was recorded, belongs to no rank. A
smaller difference may be that of a file server's clock."""

SHORT = 200
"""Characters of a recorded error that the outcome of a rank keeps."""

TAIL_LINES = 20
"""Last lines of stderr in a failure's text."""

NEVER_ENDED = 1 << 32
"""Start of the order numbers of abandoned ranks: they follow all that ended, in the order of failures."""


@dataclass(frozen=True, slots=True)
class Harvest:
    """The state at the end of a job, before it is judged."""

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
    """Build the result. Reads error files and stderr tails; never raises because of their content."""
    outcomes = found.policy.outcomes(found.stacks)
    specs = {rank.rank: rank for rank in found.spec.ranks}
    values: dict[int, Any] = {}
    reasons: dict[int, str] = {}
    for rank, rank_outcome in list(outcomes.items()):
        because = getattr(found.handles[rank], "spawned_because", "")
        if because:
            outcomes[rank] = replace(rank_outcome, spawned_because=because)
        value = _value(specs[rank], found.handles[rank])
        if isinstance(value, NotReturned):
            if rank_outcome.succeeded:  # it was sent, but cannot be received
                outcomes[rank] = replace(outcomes[rank], succeeded=False)
            reasons[rank] = value.reason
        elif rank_outcome.succeeded:
            values[rank] = value.value
    stale: dict[int, Identity | None] = {}
    for rank, rank_outcome in list(outcomes.items()):
        if not rank_outcome.succeeded and (rank_outcome.recorded or _has_error_file(specs[rank])):
            stale[rank] = _stale(found, specs[rank], rank_outcome, clock)
            text = " ".join(_recorded(specs[rank], rank_outcome, stale[rank]).split())
            if text:
                outcomes[rank] = replace(rank_outcome, recorded=neutral(printable(text, SHORT)))
    outcome = _outcome(found, outcomes, clock)
    rivals = {outcome.root_cause: outcome.root_cause_rivals}
    failures = {
        rank: _failure(
            specs[rank],
            outcomes[rank],
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
    """Return whether any file exists there: most ranks that are stopped have none."""
    return spec.error_file is not None and os.path.lexists(spec.error_file)


def _value(spec: RankSpec, handle: ProcessHandle) -> Returned | NotReturned:
    if isinstance(spec.run, Function):
        result: Returned | NotReturned = handle.result()  # type: ignore[attr-defined]
        return result
    return Returned(None)


def _outcome(found: Harvest, outcomes: dict[int, RankOutcome], clock: Clock) -> JobOutcome:
    failed = [rank_outcome for rank_outcome in outcomes.values() if rank_outcome.failed]
    by_itself = sorted((f.evidence_order, f.rank) for f in failed if f.evidence_order is not None)
    by_exit = sorted((f.exit_order, f.rank) for f in failed if f.cause is Cause.SELF and f.exit_order is not None)
    abandoned = sorted(f.rank for f in failed if f.cause is Cause.ABANDONED)
    root = by_itself[0][1] if by_itself else by_exit[0][1] if by_exit else abandoned[0] if abandoned else None
    rivals = () if root is None else found.policy.rivals(root)
    now = clock.now()
    exits = [rank_outcome.exited_at for rank_outcome in outcomes.values() if rank_outcome.exited_at is not None]
    return JobOutcome(
        ranks=outcomes,
        root_cause=root,
        started_at=found.started_at,
        ended_at=now if abandoned or not exits else max(exits),
        stop_requested_at=found.policy.stop_requested_at,
        stop_reason=found.policy.stop_reason,
        timed_out=found.timed_out,
        leftovers=found.leftovers,
        console_missed=found.console_missed,
        root_cause_rivals=tuple(rank for rank in rivals if outcomes[rank].failed),
    )


def _stale(found: Harvest, spec: RankSpec, rank_outcome: RankOutcome, clock: Clock) -> Identity | None:
    """Return the identity of an error file that is not this rank's: it existed before the start, or is older.

    A rank may set the time of its file. So the time counts only if the launcher detected no record of the rank.
    """
    now = None if spec.error_file is None or rank_outcome.recorded_at is not None else identify(spec.error_file)
    # Files have only the wall clock. A step of it in either direction makes no file older than both estimates.
    started = min(found.started_wall, clock.wall() - (clock.now() - found.started_at))
    old = now is not None and now.mtime_ns < (started - LONG_BEFORE) * 1e9
    return now if old else found.stale.get(spec.rank)


def _recorded(spec: RankSpec, rank_outcome: RankOutcome, stale: Identity | None) -> str:
    """Return the recorded error of a rank in a line: as read while it ran, and the file's newer text if it differs."""
    record = None if spec.error_file is None else read(spec.error_file, stale=stale)
    if not isinstance(record, ErrorRecord):
        return rank_outcome.recorded
    text = record.message
    if record.pid not in (None, rank_outcome.pid):
        text = f"{text} (recorded by process {record.pid}, not by the rank itself)"
    return text if rank_outcome.recorded in ("", record.message) else f"{rank_outcome.recorded}; later: {text}"


def _failure(
    spec: RankSpec,
    rank_outcome: RankOutcome,
    reason: str,
    stale: Identity | None,
    clock: Clock,
    *,
    rivals: tuple[int, ...],
) -> ProcessFailure:
    if rank_outcome.status is None:
        reason = "abandoned: it still existed after SIGKILL; it may be in uninterruptible sleep"
    elif rank_outcome.status.ok:
        reason = reason or "it exited with code 0 without returning a value"
    elif rank_outcome.status.lost:
        reason = str(rank_outcome.status)
    if (
        rank_outcome.cause is not Cause.STOPPED_BY_US
        and rank_outcome.recorded_at is not None
        and rank_outcome.signalled_at is not None
    ):
        after = max(0.0, rank_outcome.signalled_at - rank_outcome.recorded_at) * 1000
        reason = _joined(reason, f"it had recorded its error {after:.0f} ms before it was sent a signal to stop")
    if "; later: " in rank_outcome.recorded:
        reason = _joined(reason, f"it recorded: {rank_outcome.recorded}")
    if rivals:
        names = ", ".join(f"rank {rank}" for rank in rivals)
        reason = _joined(
            reason, f"its order is uncertain: {names} may have failed before it; the kernel does not report the order"
        )
    seen_at = clock.wall() if rank_outcome.exited_at is None else clock.wall() - (clock.now() - rank_outcome.exited_at)
    return ProcessFailure(
        local_rank=rank_outcome.rank,
        pid=rank_outcome.pid,
        exitcode=UNKNOWN_RETURNCODE if rank_outcome.status is None else rank_outcome.status.returncode,
        error_file="" if spec.error_file is None else os.fspath(spec.error_file),
        status=rank_outcome.status,
        seen_at=seen_at,
        order=_order(rank_outcome),
        stderr_tail="" if spec.streams.stderr is None else tail_of(spec.streams.stderr, lines=TAIL_LINES),
        stale=stale,
        reason=reason,
        stack=rank_outcome.stack,
    )


def _order(rank_outcome: RankOutcome) -> int:
    place = rank_outcome.exit_order if rank_outcome.evidence_order is None else rank_outcome.evidence_order
    return NEVER_ENDED + rank_outcome.rank if place is None else place


def _joined(reason: str, more: str) -> str:
    return f"{reason}; {more}" if reason else more
