"""Timeline of a run as lanes: one for the launcher and one for each rank, with bands and marks. Pure.

Any journal becomes a timeline, whatever its content: ranks write to it, and a run may have been cut off at any point.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, TypeAlias

from derail.faults.engine import journal
from derail.model.exit import signal_name
from derail.model.input_error import InputError
from derail.report.lanes import Band, Lane, Mark, Timeline
from derail.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from derail.faults.engine.journal import Record
    from derail.model.outcome import JobOutcome, Leftover
    from derail.report.lanes import BandKind, MarkKind
    from derail.scenario.model import JobResult

PHASES: tuple[BandKind, ...] = ("starting", "running", "stopping", "killing")
Who: TypeAlias = "int | str | None"
"""A rank, a process of the launcher by name, or the launcher itself."""
AGENT = "agent"
LATEST_S = 2.0**40
"""Maximum seconds since 1970 of a plausible clock; a journal with later times is damaged."""


@dataclass(slots=True)
class _Lane:
    """Lane under construction."""

    bands: list[Band] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    alive_since: float | None = None
    phase: tuple[BandKind, float] | None = None
    fate: str = ""


@dataclass(slots=True)
class _Hit:
    """Fault on a rank under construction."""

    begin: float
    seen: float
    end: float | None = None
    result: str = "unknown"


def observed(seen: JobResult) -> Timeline:
    """Return the timeline of a result; of its outcome alone if the journal cannot be read."""
    try:
        records = () if seen.journal is None else journal.read(seen.journal)
    except (OSError, InputError):
        records = ()
    return timeline(records, outcome=seen if seen.ran else None, leftovers=seen.leftovers)


def timeline(
    records: Sequence[Record], *, outcome: JobOutcome | None = None, leftovers: Iterable[Leftover] = ()
) -> Timeline:
    """Return the timeline of a journal's records (of its last run, if it has several), and of further facts."""
    run = _last_run(records)
    if not any(record["event"] == "started" for record in run):
        run = [*run, *_records_of(outcome)]
    begin, end = _extent(run)
    reading = _Reading(begin, end, _fault_names(run))
    for record in sorted(run, key=reading.at):
        reading.take(record)
    return replace(reading.done(outcome, leftovers), wall=_wall(run, begin))


class _Reading:
    """Reader of records in the order of their times."""

    def __init__(self, begin: float, end: float, faults: Mapping[str, str]) -> None:
        self._begin, self._end = begin, end
        self._faults = faults
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)
        self._ranks: dict[str, Who] = {}
        self._hits: dict[tuple[str, Who], _Hit] = {}
        self._lane(None)

    def at(self, record: Record) -> float:
        """Return the time of a record in seconds of the run. A wrong clock in a rank does not extend the run."""
        return min(max(_time(record), self._begin), self._end) - self._begin

    def take(self, record: Record) -> None:
        """Add a record."""
        at, rank = self.at(record), _rank(record)
        match record["event"]:
            case "phase" if rank is None or record.get("phase") == "starting":
                self._move_on(record.get("phase"), at)
            case "stop_requested":
                self._mark(None, "stop", at, f"asked to end the job: {record.get('reason', '')}")
            case "hang":
                lines = record.get("lines")
                texts = [str(line).strip() for line in lines] if isinstance(lines, list) else []
                self._mark(None, "stop", at, "; ".join(texts) or "hang")
            case "deadline" if record.get("name") == "kill":
                self._mark(None, "deadline", at, "the grace period is over")
            case "restarted":
                number, restarts = record.get("number"), record.get("restarts")
                self._mark(None, "start", at, f"restart {number} of {restarts}: all ranks are started again")
            case "finished":
                self._finish(record.get("ranks"), at)
            case "agent_started" | "agent_exited" | "agent_signalled" as event:
                self._take_of(record, event.removeprefix("agent_"), printable(str(record.get("agent", AGENT))), at)
            case "start" | "again" | "end" | "healed" | "heal_failed" as event if rank is None:
                self._take_of(record, event, None, at)
            case str(event) if rank is not None:
                self._take_of(record, event, rank, at)

    def _take_of(self, record: Record, event: str, rank: Who, at: float) -> None:
        """Add a record about a rank, or about a process of the launcher."""
        fault = str(record.get("fault", ""))
        match event:
            case "started":
                self._live(rank, at)
                self._mark(rank, "start", at, f"started (pid {record.get('pid')})")
            case "exited":
                status = str(record.get("status", ""))
                self._lane(rank).fate = status
                self._die(rank, at)
                self._mark(rank, "exit", at, f"ended: {status}")
            case "value":
                self._mark(rank, "value", at, "returned")
            case "recorded":
                self._mark(rank, "line", at, f"recorded its error: {record.get('message', '')}")
            case "signal_sent" | "signalled":
                number = record.get("signal")
                name = signal_name(number) if isinstance(number, int) else str(number)
                self._mark(rank, "signal", at, f"signalled: {name}")
            case "line":
                self._mark(rank, "line", at, f"wrote {str(record.get('text', ''))!r}")
            case "start" | "again":
                self._hits.setdefault((fault, rank), _Hit(at, at))
                self._mark(rank, "fault", at, f"hit by {self._fault(fault)}")
            case "end":
                self._hit_ended(fault, rank, at, record)
            case "healed":
                if hit := self._hits.get((fault, rank)):
                    hit.end = at
                self._mark(rank, "fault", at, f"healed: {record.get('what', '')}")
            case "heal_failed":
                self._mark(rank, "fault", at, f"could not be healed: {record.get('what', '')}: {record.get('error')}")

    def _hit_ended(self, fault: str, rank: Who, at: float, record: Record) -> None:
        result = str(record.get("result", "unknown"))
        if hit := self._hits.get((fault, rank)):
            hit.result, hit.seen = result, at
        name = self._fault(fault).partition(" ")[0]
        self._mark(rank, "fault", at, f"{name} {result.replace('_', ' ')}: {record.get('detail', '')}")

    def done(self, outcome: JobOutcome | None, leftovers: Iterable[Leftover]) -> Timeline:
        """Return the lanes of all records."""
        last = self._end - self._begin
        self._move_on(None, last)
        for name, rank in list(self._ranks.items()):
            if self._lanes[name].alive_since is not None:
                self._die(rank, last)
                self._lanes[name].fate = "still there"
        for left in leftovers:
            owner = left.rank if left.rank is not None and left.rank >= 0 else None
            self._mark(owner, "left", last, f"left behind: {left}")
        for (fault, rank), hit in self._hits.items():
            self._lane(rank).bands.append(
                Band("fault", hit.begin, self._over(rank, hit), self._fault(fault), hit.result)
            )
        own = self._lanes[AGENT]
        if any(isinstance(who, str) for who in self._ranks.values()) and not (own.bands or own.marks):
            del self._ranks[AGENT]  # each of its processes has a lane
        order = sorted(self._ranks.items(), key=lambda named: (*_order(named[1]), named[0]))
        return Timeline(round(last, 6), tuple(self._finished(name, rank, outcome) for name, rank in order))

    def _over(self, rank: Who, hit: _Hit) -> float:
        """Return when a fault ended: undone, or with its rank; if that had ended before, at the time of its proof."""
        lives = [band for band in self._lane(rank).bands if band.kind == "alive"]
        exits = [band.end for band in lives if band.begin <= hit.begin < band.end]
        return min([*exits, hit.end or self._end - self._begin]) if exits else hit.end or hit.seen

    def _finished(self, name: str, rank: Who, outcome: JobOutcome | None) -> Lane:
        lane = self._lanes[name]
        exit_of_rank = None if outcome is None or not isinstance(rank, int) else outcome.ranks.get(rank)
        fate = lane.fate if exit_of_rank is None else str(exit_of_rank).partition(": ")[2]
        hit = any(band.kind == "fault" for band in lane.bands)
        failed = _failed(fate) if exit_of_rank is None else exit_of_rank.failed
        return Lane(
            name=name,
            rank=rank if isinstance(rank, int) else None,
            fate=fate,
            telling=not isinstance(rank, int)
            or failed
            or hit
            or any(mark.kind in ("fault", "left") for mark in lane.marks),
            failed=failed,
            bands=tuple(sorted(lane.bands, key=lambda band: (band.kind == "fault", band.begin))),
            marks=tuple(sorted(lane.marks, key=lambda mark: mark.at)),
        )

    def _lane(self, rank: Who) -> _Lane:
        name = AGENT if rank is None else f"rank {rank}" if isinstance(rank, int) else rank
        self._ranks[name] = rank
        return self._lanes[name]

    def _mark(self, rank: Who, kind: MarkKind, at: float, text: str) -> None:
        self._lane(rank).marks.append(Mark(kind, round(at, 6), text))

    def _move_on(self, phase: object, at: float) -> None:
        """Enter another phase of the launcher, or none at the end of the run."""
        lane = self._lane(None)
        if lane.phase is not None and lane.phase[0] != phase:
            lane.bands.append(Band(lane.phase[0], lane.phase[1], at, lane.phase[0]))
            lane.phase = None
        for each in PHASES:
            if each == phase and lane.phase is None:
                lane.phase = (each, at)

    def _live(self, rank: Who, at: float) -> None:
        self._die(rank, at)
        self._lane(rank).alive_since = at

    def _die(self, rank: Who, at: float) -> None:
        lane = self._lane(rank)
        if lane.alive_since is not None:
            lane.bands.append(Band("alive", lane.alive_since, at))
        lane.alive_since = None

    def _finish(self, fates: object, at: float) -> None:
        self._move_on(None, at)
        for rank, fate in fates.items() if isinstance(fates, dict) else ():
            if str(rank).isdecimal():
                self._lane(int(rank)).fate = str(fate).partition(": ")[2] or str(fate)

    def _fault(self, name: str) -> str:
        return self._faults.get(name, name)


def _last_run(records: Sequence[Record]) -> list[Record]:
    """Return the records from the last plan on that have a time and are of a known kind."""
    plans = [number for number, record in enumerate(records) if record["event"] == "plan"]
    return [record for record in records[plans[-1] if plans else 0 :] if isfinite(_time(record))]


def _extent(run: Sequence[Record]) -> tuple[float, float]:
    """Return the first and last time. Only the process that wrote the plan counts; ranks may have wrong clocks."""
    writers = [record.get("by") for record in run if record["event"] == "plan"]
    times = [_time(each) for each in run if each["event"] != "plan" and (not writers or each.get("by") in writers)]
    times = times or [_time(each) for each in run]
    return (min(times), max(times)) if times else (0.0, 0.0)


def _wall(run: Sequence[Record], begin: float) -> float:
    """Return the wall clock at a time of the monotonic one, by the plan's record, which has both; 0 without it."""
    for record in run:
        wall, at = record.get("wall"), record.get("at")
        if record["event"] == "plan" and isinstance(wall, float) and isinstance(at, float):
            first = wall + begin - at
            return round(first, 6) if 0 < first < LATEST_S else 0.0
    return 0.0


def _fault_names(run: Sequence[Record]) -> dict[str, str]:
    """Return a short description of each fault of the plan, by id; empty if the plan cannot be read."""
    from derail.faults.codec import from_data
    from derail.model.input_error import InputError

    plan = next((record.get("plan") for record in run if record["event"] == "plan"), None)
    try:
        return {fault.id: str(fault) for fault in from_data(plan).faults}
    except InputError:
        return {}


def _records_of(outcome: JobOutcome | None) -> list[Record]:
    """Return substitutes for a journal without ranks: an outcome contains only the time of each exit."""
    if outcome is None:
        return []
    records: list[Record] = []
    for rank, fate in outcome.ranks.items():
        records.append({"event": "started", "at": outcome.started_at, "rank": rank, "pid": fate.pid})
        if fate.exited_at is not None:
            records.append({"event": "exited", "at": fate.exited_at, "rank": rank, "status": str(fate.status)})
    if outcome.stop_requested_at is not None:
        records.append({"event": "phase", "at": outcome.stop_requested_at, "phase": "stopping"})
    return [*records, {"event": "finished", "at": outcome.ended_at}]


def _time(record: Record) -> float:
    at = record.get("seen_at", record.get("at"))
    return float(at) if isinstance(at, int | float) and not isinstance(at, bool) else float("nan")


def _order(who: Who) -> tuple[int, int]:
    """Return the sort key of a lane: the launcher, its processes, then ranks by number."""
    return (2, who) if isinstance(who, int) else (0 if who is None else 1, 0)


def _failed(fate: str) -> bool:
    """Return whether a rank failed by itself, according to the description of its end."""
    return fate.endswith("abandoned") or (fate.endswith("by itself") and not fate.startswith("exit 0,"))


def _rank(record: Record) -> int | None:
    rank = record.get("rank")
    return rank if isinstance(rank, int) and not isinstance(rank, bool) and rank >= 0 else None
