"""Sections about a job: each rank's fate, faults and their evidence, last lines, timeline, and paths of evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from derail.model.events import Stream
from derail.report.text import MARKS, SHOWN_RANKS, TAIL_LINES, printable
from derail.scenario.observe import tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pytest

    from derail.report.lanes import Timeline
    from derail.scenario.model import JobResult

JOURNAL_RECORDS = 12


def picture(seen: JobResult) -> str:
    """Return everything important about a finished job."""
    return "\n".join([*_fates(seen), *_failures(seen), *fault_lines(seen), *_tails(seen), *_where(seen)])


def sections(seen: JobResult, *, shown: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the same in sections, each with its title, and the timeline.

    Args:
        seen: the result of the job.
        shown: whether the report contains ``picture`` already.
    """
    if not shown:
        yield "", "\n".join([*_fates(seen), *_failures(seen), *fault_lines(seen)])
        for rank in _most_telling(seen)[:SHOWN_RANKS]:
            for stream, lines in _streams(seen, rank):
                yield f"rank {rank}, last lines of {stream}", "\n".join(map(printable, lines))
    yield from what_happened(seen)
    files = "\n".join(_error_files(seen))
    if files:
        yield "error files", files
    where = "\n".join(_where(seen))
    if where:
        yield "evidence", where


def what_happened(seen: JobResult, change: Callable[[Timeline], Timeline] | None = None) -> Iterator[tuple[str, str]]:
    """Yield a timeline and, for a job with faults, the last records of the journal.

    Yield nothing for a job that succeeded without faults: its ranks only started and ended.

    Args:
        seen: the result of the job.
        change: adds further facts to the timeline.
    """
    from derail.report.timeline import observed
    from derail.report.timeline_text import render_timeline

    if seen.succeeded and not seen.faults:
        return
    lanes = observed(seen)
    drawn = render_timeline(lanes if change is None else change(lanes)).rstrip("\n")
    if drawn:
        yield "timeline", drawn
    if seen.journal is not None and seen.faults:
        records = tail(seen.journal, lines=JOURNAL_RECORDS)
        yield f"journal, last {len(records)} records", "\n".join(map(printable, records))


def add_sections(report: pytest.TestReport, named: Iterable[tuple[str, str]]) -> None:
    """Add sections where they reach the terminal, JUnit XML and other processes."""
    longrepr: Any = report.longrepr
    for name, text in named:
        if hasattr(longrepr, "addsection"):
            longrepr.addsection(name, text)
        else:
            report.sections.append((name, text))


def _error_files(seen: JobResult) -> Iterator[str]:
    """Yield state and path of the error files of failed ranks, as far as their supervisor could read them."""
    for rank, failure in seen.failures.items():
        if failure.error_file == "missing":
            yield f"rank {rank}: none"
            continue
        log = seen.logs.get((rank, "stdout")) or seen.logs.get((rank, "stderr"))
        path = "" if log is None else str(log.parent / "error.json")
        yield printable(f"rank {rank}: {failure.error_file} {path}".rstrip())
        if failure.problem:
            yield f"  {printable(failure.problem)}"


def _fates(seen: JobResult) -> Iterator[str]:
    if seen.error:
        yield f"the launcher broke: {printable(seen.error)}"
    if not seen.ran:
        yield "no rank was started"
        return
    yield f"root cause: {'no rank failed' if seen.root_cause is None else f'rank {seen.root_cause}'}"
    if seen.stop_reason:
        took = "" if seen.teardown_seconds is None else f"; the teardown took {seen.teardown_seconds:.2f} s"
        yield f"stopped: {printable(seen.stop_reason)}{took}"
    if seen.hang is not None:
        yield from map(printable, seen.hang.lines)
    for _, fate in sorted(seen.ranks.items()):
        yield printable(f"  {fate}")
    for left in seen.leftovers:
        yield f"outlived its rank: {printable(str(left))}"


def _failures(seen: JobResult) -> Iterator[str]:
    for rank, failure in seen.failures.items():
        lines = failure.message.splitlines() or [""]
        yield f"rank {rank} says: {printable(lines[0])}"
        shown = lines[1:] if len(lines) <= TAIL_LINES + 1 else ["...", *lines[-TAIL_LINES:]]
        yield from (f"  {printable(line)}" for line in shown)
        if failure.problem:
            yield f"  its error file is {failure.error_file}: {printable(failure.problem)}"
        stack = seen.ranks[rank].stack if rank in seen.ranks else ""
        yield from (f"  {printable(line)}" for line in stack.splitlines())


def fault_lines(seen: JobResult) -> Iterator[str]:
    """Yield the status of each fault, and its evidence."""
    for result in seen.faults:
        target = "" if result.rank is None else f" on rank {result.rank}"
        yield printable(f"fault {MARKS[result.status]} {result.fault}")
        yield f"  {result.status.replace('_', ' ')}{target}: {printable(result.detail)}"


def _tails(seen: JobResult) -> Iterator[str]:
    for rank in _most_telling(seen)[:SHOWN_RANKS]:
        for stream, lines in _streams(seen, rank):
            yield f"last lines of {stream} of rank {rank}:"
            yield from (f"  | {printable(line)}" for line in lines)


def _streams(seen: JobResult, rank: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    for stream in get_args(Stream):
        lines = seen.log_tail.get((rank, stream), ())
        if lines:
            yield stream, lines[-TAIL_LINES:]


def _most_telling(seen: JobResult) -> list[int]:
    """Return the ranks, failed ones first."""
    return [*seen.failed, *(rank for rank in sorted(seen.ranks) if rank not in seen.failed)]


def _where(seen: JobResult) -> Iterator[str]:
    if seen.journal is not None:
        yield f"journal: {seen.journal}"
    if seen.workdir is not None:
        yield f"logs: {seen.workdir}"
