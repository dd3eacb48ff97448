"""Verdict as plain text, followed by its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from derail.errors.text import neutral

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.scenario.model import JobResult, Scenario, Verdict

TAIL_LINES = 10  # lines of a stream
SHOWN_RANKS = 16
"""Ranks that are shown one by one; of a larger job, the most important ones."""
MARKS = {"injected": "+", "not_reached": "-", "unavailable": "-", "errored": "!", "unknown": "?"}


def render_verdict(scenario: Scenario, result: JobResult, verdict: Verdict) -> str:
    """Return the verdict and its evidence, ending with a newline, without colours or control characters from ranks."""
    return neutral("\n".join(_lines(scenario, result, verdict)) + "\n")


def _lines(scenario: Scenario, result: JobResult, verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.kind}  {scenario.name or scenario.title}"
    if scenario.name and scenario.title:
        yield f"      {scenario.title}"
    yield from _why(verdict)
    for part in (_cause, _hang, _exits, _faults, _tail, _times, _left):
        for line in part(result):
            quoted = line.startswith("  |") or (part is _cause and line.startswith(" "))
            yield line if quoted else scenario.named(line)
    if result.journal is not None:
        yield f"journal: {result.journal}"


def _why(verdict: Verdict) -> Iterator[str]:
    for reason in verdict.reasons:
        yield f"  * {printable(reason)}"
    for finding in verdict.findings:
        if finding.promise == "budget" and finding.kept is None:
            yield f"  - {finding}"
    for violation in verdict.violations if verdict.kind == "INCONCLUSIVE" else ():
        yield f"    (and {printable(violation)})"


def _cause(result: JobResult) -> Iterator[str]:
    if result.error:
        yield f"launcher: {printable(result.error)}"
    if not result.ran:
        return
    yield ""
    rank = result.root_cause
    if rank is None:
        reason = result.stop_reason
        yield f"root cause: none{f' ({printable(reason)})' if reason else ''}"
        return
    yield f"root cause: {result.ranks[rank]}"
    failure = result.failures.get(rank)
    if failure is not None:
        yield from (f"  {printable(line)}" for line in _ends(failure.message.splitlines()))
        if failure.problem:
            yield f"  error file: {failure.error_file}: {printable(failure.problem)}"


def _hang(result: JobResult) -> Iterator[str]:
    if result.hang is not None:
        yield from map(printable, result.hang.lines)


def _ends(lines: list[str]) -> list[str]:
    """Return the first and the last of many lines: a message begins with the event, and ends with the exception."""
    head = 4
    return lines if len(lines) <= head + TAIL_LINES else [*lines[:head], "...", *lines[-TAIL_LINES:]]


def _exits(result: JobResult) -> Iterator[str]:
    if result.ran:
        yield "exits:"
        yield from (f"  {fate}" for _, fate in sorted(result.ranks.items()))


def _faults(result: JobResult) -> Iterator[str]:
    if result.faults:
        yield "faults:"
    for fault in result.faults:
        target = "" if fault.rank is None else f" on rank {fault.rank}"
        yield f"  {MARKS[fault.status]} {fault.fault}"
        yield f"    {fault.status.replace('_', ' ')}{target}: {printable(fault.detail)}"


def _tail(result: JobResult) -> Iterator[str]:
    rank = result.root_cause
    if rank is None:
        return
    for (owner, stream), lines in result.log_tail.items():
        if owner == rank and lines:
            yield f"last lines of {stream} of rank {rank}:"
            yield from (f"  | {printable(line)}" for line in lines[-TAIL_LINES:])


def _times(result: JobResult) -> Iterator[str]:
    if result.teardown_seconds is not None:
        yield f"teardown: {result.teardown_seconds:.2f} s"
    if text := str(result.recovery):
        yield f"recovery: {text}"
    if result.seconds is not None:
        yield f"whole job: {result.seconds:.2f} s"


def _left(result: JobResult) -> Iterator[str]:
    if not result.ran:
        return
    if not result.leftovers:
        yield "left behind: nothing"
    for left in result.leftovers:
        yield f"left behind: {printable(str(left))}"


def printable(text: str) -> str:
    """Return the text with control characters escaped, so that none reaches the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
