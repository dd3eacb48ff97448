"""Runs a job again from the journal of its first run: the same program, ranks and plan; and says what differed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derail.faults import codec, journal
from derail.faults.plan import PlanError
from derail.model.spec import Teardown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from derail.agents.invocation import Run
    from derail.agents.native import NativeJob
    from derail.faults.journal import Record
    from derail.faults.plan import Plan
    from derail.model.events import Observer

Key = tuple[str, int]
SAME, DIFFERS, INCONCLUSIVE, SKIPPED = 0, 1, 3, 4
"""What a replay exits with, as a scenario does."""


class ReplayError(ValueError):
    """A journal from which nothing can be run again. It says why."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a journal says of the run of one job.

    Attributes:
        plan: what was to be broken.
        program: what the ranks ran: an argv, or the path of a script; None for a function.
        how: the other arguments of ``start_job``.
        stopped_after: seconds after which somebody asked for its end; None if nobody did.
        results: what came of each fault on each rank.
        hits: at which time of what it waited for each fault acted; None for what is not counted.
        order: who acted, first to last.
        root_cause: the rank that failed first; None if none did.
        fates: how each rank ended.
    """

    plan: Plan
    program: Run | None
    how: dict[str, Any]
    stopped_after: float | None
    results: dict[Key, str] = field(default_factory=dict)
    hits: dict[Key, tuple[int | None, ...]] = field(default_factory=dict)
    order: tuple[Key, ...] = ()
    root_cause: int | None = None
    fates: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that was not the same again.

    Attributes:
        text: what, before and now.
        matters: whether the plan decides it. The order of what happens in different ranks, and how those end that were
            stopped because of another, are for the machine to decide.
    """

    text: str
    matters: bool = True


def read(path: Path) -> Recorded:
    """The last run that a journal tells of.

    Raises:
        ReplayError: if it is no journal, or that run cannot be repeated from it.
    """
    try:
        records = journal.read(path)
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error}") from None
    plans = [place for place, record in enumerate(records) if record["event"] == "plan" and "plan" in record]
    if not plans:
        raise ReplayError(f"{path}: is no journal of a run: no plan stands in it")
    head, told = records[plans[-1]], records[plans[-1] + 1 :]
    try:
        plan = codec.from_data(head["plan"], source=str(path))
    except PlanError as error:
        raise ReplayError(str(error)) from None
    run = head.get("run")
    if not isinstance(run, dict):
        raise ReplayError(f"{path}: does not say what its ranks ran")
    return _recorded(plan, run, told)


def _recorded(plan: Plan, run: dict[str, Any], told: Sequence[Record]) -> Recorded:
    hits: dict[Key, tuple[int | None, ...]] = {}
    for record in told:
        if record["event"] in ("start", "again", "tell"):
            hit = record.get("hit")
            earlier = hits.get(_key(record), ())
            if record["event"] == "start" and earlier:
                continue  # the rank that was told does it
            hits[_key(record)] = (*earlier, hit if isinstance(hit, int) else None)
    finished = next((record for record in reversed(told) if record["event"] == "finished"), {})
    cause, fates = finished.get("root_cause"), finished.get("ranks")
    teardown = run.get("teardown")
    function = "function" in run
    return Recorded(
        plan=plan,
        program=None if function else run.get("script") or run.get("argv") or [],
        how={
            "ranks": int(run["ranks"]),
            "args": tuple(run.get("args", ())),
            "env": dict(run.get("env", {})),
            "cwd": Path(run["cwd"]),
            "name": str(run.get("function") or run.get("name", "")),
            "teardown": Teardown(**teardown) if isinstance(teardown, dict) else None,
        },
        stopped_after=_stopped_after(told),
        results={_key(record): str(record["result"]) for record in told if record["event"] == "end"},
        hits=hits,
        order=tuple(_key(record) for record in told if record["event"] == "start"),
        root_cause=cause if isinstance(cause, int) else None,
        fates=fates if isinstance(fates, dict) else {},
    )


def _key(record: Record) -> Key:
    return str(record.get("fault")), int(str(record.get("rank")))


def _stopped_after(told: Sequence[Record]) -> float | None:
    started = [float(str(record["at"])) for record in told if record["event"] == "started"]
    stopped = [float(str(record["at"])) for record in told if record["event"] == "stop_requested"]
    return max(0.0, stopped[0] - started[0]) if started and stopped else None


def start(recorded: Recorded, *, workdir: Path, observers: Sequence[Observer] = ()) -> NativeJob:
    """Start the same job again; it is to be stopped after ``stopped_after`` seconds, if somebody had done so.

    Raises:
        ReplayError: if its ranks were functions.
        OSError, PlanError, ValueError: as ``start_job`` does.
    """
    from derail.agents.native import start_job

    if recorded.program is None:
        raise ReplayError(
            f"its ranks were the function {recorded.how['name']}, which cannot be called from the command line; "
            "run whatever called it, with the plan of the journal"
        )
    how = {**recorded.how, "name": recorded.how["name"] or ""}
    return start_job(
        recorded.program, **how, plan=recorded.plan, workdir=workdir, observers=observers, handle_signals=True
    )


def differences(before: Recorded, now: Recorded) -> tuple[Difference, ...]:
    """What was not the same again, fault by fault; then in which order, and how the job ended."""
    found = []
    for key in sorted({*before.results, *now.results}):
        was, then = before.results.get(key, "not aimed at"), now.results.get(key, "not aimed at")
        if was != then:
            found.append(Difference(f"{key[0]} on rank {key[1]}: {was} then, {then} now"))
        elif before.hits.get(key) != now.hits.get(key):
            found.append(
                Difference(f"{key[0]} on rank {key[1]}: acted {_times(before, key)} then, {_times(now, key)} now")
            )
    if before.order != now.order and sorted(before.order) == sorted(now.order):
        found.append(Difference(f"the order was {_row(before)} then, {_row(now)} now", matters=False))
    if before.root_cause != now.root_cause:
        was, then = ("none" if told.root_cause is None else f"rank {told.root_cause}" for told in (before, now))
        found.append(Difference(f"the root cause was {was} then, {then} now"))
    for rank in sorted({*before.fates, *now.fates}, key=int):
        was, then = before.fates.get(rank, "was not started"), now.fates.get(rank, "was not started")
        if was != then:
            found.append(Difference(f"{was} then; {then} now", matters=False))
    return tuple(found)


def _times(told: Recorded, key: Key) -> str:
    hits = told.hits.get(key, ())
    return "at hit " + ", ".join("?" if hit is None else str(hit) for hit in hits) if hits else "never"


def _row(told: Recorded) -> str:
    return ", ".join(f"{fault} on rank {rank}" for fault, rank in told.order)


def exit_code(before: Recorded, now: Recorded) -> int:
    """0 if it was the same again; 4 if a fault is unavailable now and was not then, 3 if one does not verifiably happen
    that did then, 1 for any other difference that matters."""
    lost = {now.results.get(key, "") for key, was in before.results.items() if was == "injected"} - {"injected"}
    if lost:
        return SKIPPED if lost == {"unavailable"} else INCONCLUSIVE
    return DIFFERS if any(difference.matters for difference in differences(before, now)) else SAME
