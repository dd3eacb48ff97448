"""Where a job is, or was at its end: found by the pid of one of its processes, or by its journal."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from derail.diagnose.examine import RINGS, examine, judge_rings
from derail.diagnose.rings import mapped_rings
from derail.diagnose.verdict import Culprit, HangVerdict
from derail.faults.engine import journal
from derail.faults.inrank.rank_plan import RECORDER
from derail.model.input_error import InputError
from derail.platform.processes import environment, every_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is, or was.

    Attributes:
        verdict: the verdict on its ranks.
        stacks: stack of each rank that has written one.
        is_over: whether the job is over.
        journal: its journal.
    """

    verdict: HangVerdict
    stacks: Mapping[int, str]
    is_over: bool
    journal: Path


def of_process(pid: int) -> Place:
    """Return where the job of a process is: of one of its ranks, or of their launcher.

    Raises:
        InputError: if the process has no part in a job that records its collectives.
    """
    parents = {process.pid: process.ppid for process in every_process()}
    if pid not in parents:
        raise InputError(f"there is no process {pid}")
    jobs = {ring.parent.parent for ring in mapped_rings(pid)}
    if not jobs:
        family = [each for each in parents if pid in _ancestors(each, parents)]
        jobs = {ring.parent.parent for each in family for ring in mapped_rings(each)}
    if not jobs:
        raise InputError(
            f"process {pid}: neither it nor a descendant records collectives. Start the job with derail launch --record"
        )
    journals = sorted(job / journal.JOURNAL for job in jobs)
    if len(journals) > 1:
        raise InputError(f"process {pid} has {len(journals)} jobs. Name one by its journal:", *map(str, journals))
    return of_journal(journals[0])


def of_journal(path: Path) -> Place:
    """Return where the job of a journal is, or was at its end.

    Raises:
        InputError: if the journal cannot be read, or the job has recorded no collectives.
    """
    try:
        path = path.resolve()
        records = journal.read(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    starts = [place for place, record in enumerate(records) if record["event"] in ("plan", "restarted")]
    records = records[starts[-1] :] if starts else records
    rings, pids, ended = path.parent / RINGS, dict(_numbers(records, "pid")), _ended(records)
    is_over = any(record["event"] == "finished" for record in records)
    if not rings.is_dir():
        raise InputError(f"{path}: its ranks recorded no collectives. Start the job with derail launch --record")
    if is_over:
        noted = [record for record in records if record["event"] == "hang"]
        if noted:
            return Place(_noted(noted[-1]), {}, is_over, path)
        times = [record.get("at") for record in records if record["event"] in ("stop_requested", "finished")]
        until = next((float(at) for at in times if isinstance(at, int | float)), float("inf"))
        return Place(judge_rings(rings, ended=_ended(records, by_itself=True), until=until), {}, is_over, path)
    present = {rank: pid for rank, pid in pids.items() if rank in ended or _is_of(pid, rings)}
    gone = {rank: "has exited" for rank in pids if rank not in present}
    whole = {**pids, **present}
    stderrs = {rank: _stderr(pid) for rank, pid in whole.items()}
    found = examine(whole, stderrs, rings, ended={**gone, **ended})
    stacks = {rank: hang.stack() for rank, hang in found.hangs.items()}
    return Place(found.verdict, {rank: stack for rank, stack in stacks.items() if stack}, is_over, path)


def _is_of(pid: int, rings: Path) -> bool:
    """Return whether a process with the number of a rank is that rank, and not a later one with its number."""
    if any(ring.parent == rings for ring in mapped_rings(pid)):
        return True
    return f"{RECORDER}={rings}".encode() in environment(pid).split(b"\0")


def _stderr(pid: int) -> Path | None:
    with suppress(OSError):
        path = Path(os.readlink(f"/proc/{pid}/fd/2"))
        if path.is_file():
            return path
    return None


def _ancestors(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    while pid in parents and pid > 1:
        pid = parents[pid]
        yield pid


def _numbers(records: Iterable[journal.Record], key: str) -> Iterator[tuple[int, int]]:
    for record in records:
        rank, number = record.get("rank"), record.get(key)
        if record["event"] == "started" and isinstance(rank, int) and isinstance(number, int):
            yield rank, number


def _ended(records: Iterable[journal.Record], *, by_itself: bool = False) -> dict[int, str]:
    """Return how ranks have ended, in words; with ``by_itself``, without those that were ended with the job."""
    ranks: dict[int, str] = {}
    asked = False
    for record in records:
        asked |= record["event"] in ("stop_requested", "signal_sent")
        rank = record.get("rank")
        if record["event"] == "exited" and isinstance(rank, int) and not (by_itself and asked):
            ranks[rank] = f"has ended ({record.get('status')})"
    return ranks


def _noted(record: journal.Record) -> HangVerdict:
    """Return the verdict that a journal contains."""
    lines, listed = record.get("lines"), record.get("culprits")
    culprits = tuple(
        Culprit(each["rank"], each.get("reason", ""), str(each.get("words", "")))
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict) and isinstance(each.get("rank"), int)
    )
    return HangVerdict(culprits, tuple(map(str, lines)) if isinstance(lines, list) else ())
