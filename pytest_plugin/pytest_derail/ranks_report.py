"""What the report of a failed test on ranks shows: the root cause first, then every rank under its number."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ExceptionRepr, ReprExceptionInfo, ReprFileLocation, ReprTracebackNative

from derail.report.text import printable
from derail.scenario.observe import tail
from pytest_derail.sections import faults_told, what_happened
from pytest_derail.where import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_derail.rank_report import PhaseTold
    from pytest_derail.verdict import RankVerdict, Verdict

LAST_LINES = 10
SHOWN_LINES = 100
SHOWN_RANKS = 16
WIDEST = 160
CRASH = "(most recent call first):"
"""What tells the stack that Python writes when it crashes from the usual one."""


def shown(verdict: Verdict) -> str:
    """What went wrong, in a line."""
    if not verdict.bad:
        return verdict.problems[0]
    first = verdict.bad[0]
    if first.fate == "hung":
        hung = ", ".join(str(rank.rank) for rank in verdict.bad if rank.fate == "hung")
        return f"{verdict.limit or f'not over after {verdict.timeout:g} s'}: rank {hung} hung"
    if first.fate == "died":
        return f"rank {first.rank}: {first.words}"
    report, reason = getattr(_report(first), "longrepr", None), "" if first.told is None else first.told.reason
    message = getattr(getattr(report, "reprcrash", None), "message", "") or str(report or reason or first.words)
    return f"rank {first.rank}: {message}"


def sections_of(item: pytest.Function, verdict: Verdict, command: Iterable[str]) -> ExceptionRepr:
    """The whole report, as pytest's own: it reaches terminal, JUnit XML and other processes; ``command`` runs it
    again."""
    first = verdict.bad[0] if verdict.bad else None
    longrepr: Any = None if first is None else getattr(_report(first), "longrepr", None)
    message = shown(verdict)
    if not isinstance(longrepr, ExceptionRepr):
        lines = [message, *(() if longrepr is None else str(longrepr).splitlines())]
        if first is not None and first.fate == "died":
            lines += _death(first, verdict)
        longrepr = ReprExceptionInfo(ReprTracebackNative([f"{line}\n" for line in lines]), None)
    path, line, _ = item.reportinfo()
    crash = longrepr.reprcrash or ReprFileLocation(str(path), (line or 0) + 1, "")
    longrepr.reprcrash = ReprFileLocation(crash.path, crash.lineno, message)
    for name, text in rank_sections(item, verdict, command):
        longrepr.addsection(name, text)
    found: ExceptionRepr = longrepr
    return found


def text_of(told: PhaseTold) -> str:
    """What a phase that failed shows of its failure."""
    data = deepcopy(told.report)  # it is taken to pieces
    data.pop("$report_type", None)
    return pytest.TestReport._from_json(data).longreprtext if data else ""  # noqa: SLF001 - as of xdist's reports


def with_sections(longrepr: Any, sections: Iterable[tuple[str, str]]) -> ExceptionRepr:
    """A report of pytest's, with sections."""
    if not isinstance(longrepr, ExceptionRepr):
        longrepr = ReprExceptionInfo(ReprTracebackNative([f"{line}\n" for line in str(longrepr).splitlines()]), None)
    for name, text in sections:
        longrepr.addsection(name, text)
    found: ExceptionRepr = longrepr
    return found


def rank_sections(item: pytest.Function, verdict: Verdict, command: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The sections of a report on ranks, each with its name."""
    yield "ranks", "\n".join(_fates(verdict))
    yield from _others(verdict)
    for rank, found in sorted(verdict.where.items())[:SHOWN_RANKS]:
        yield f"rank {rank}: where it was", printable_text(str(found))
    wanted = item.config.getoption("showcapture", "all")
    for name, text in streams(verdict):
        if wanted == "all" or wanted in name:
            yield name, text
    told = "\n".join(faults_told(verdict.seen))
    if told:
        yield "faults", told
    yield from what_happened(verdict.seen)
    if verdict.seen.workdir is not None:
        yield "evidence", "\n".join([f"logs and journal: {verdict.seen.workdir}", *command])


def _fates(verdict: Verdict) -> Iterator[str]:
    for problem in verdict.problems:
        yield printable(problem)
    first = verdict.bad[0] if verdict.bad else None
    for number, rank in sorted(verdict.ranks.items()):
        mark = "  <- root cause" if rank is first and rank.fate != "hung" else ""
        crash = getattr(getattr(_report(rank), "longrepr", None), "reprcrash", None)
        message = "" if crash is None else f": {crash.message}".splitlines()[0]
        yield shorten_line(f"rank {number}: {rank.words}{message}") + mark


def _others(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """The ranks that failed besides the root cause; the same traceback is shown once."""
    seen: dict[str, list[RankVerdict]] = {}
    for rank in verdict.bad[1 : SHOWN_RANKS + 1]:
        report = _report(rank)
        text = "\n".join(_death(rank, verdict)) if report is None else str(getattr(report, "longrepr", ""))
        if text:
            seen.setdefault(text, []).append(rank)
    main = str(getattr(_report(verdict.bad[0]), "longrepr", "")) if verdict.bad else ""
    for text, ranks in seen.items():
        names = ", ".join(str(rank.rank) for rank in ranks)
        yield f"rank {names} failed too", "as the first" if text == main else text.strip("\n")


def _death(rank: RankVerdict, verdict: Verdict) -> Iterator[str]:
    """What is known of a rank that died without a word: what its launcher says, and its last lines."""
    failure = verdict.seen.failures.get(rank.rank)
    if failure is not None and failure.error_file == "good":
        yield from (printable(line) for line in failure.message.splitlines())
    for stream in ("stdout", "stderr"):
        lines = _lines(verdict, rank.rank, stream)[-LAST_LINES:]
        if lines:
            yield f"last lines of its {stream}:"
            yield from (f"  {printable(line)}" for line in lines)


def streams(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """What each rank has printed and logged: the last lines, those of ranks that failed first."""
    bad = [rank.rank for rank in verdict.bad]
    order = [*bad, *(rank for rank in sorted(verdict.ranks) if rank not in bad)]
    for rank in order[:SHOWN_RANKS]:
        for stream in ("stdout", "stderr"):
            lines = _lines(verdict, rank, stream)
            if lines and (verdict.ranks[rank].fate != "died" or len(lines) > LAST_LINES):
                yield (
                    f"stdout of rank {rank}" if stream == "stdout" else f"stderr of rank {rank}",
                    "\n".join(map(printable, lines)),
                )


def _lines(verdict: Verdict, rank: int, stream: Any) -> tuple[str, ...]:
    """The last lines of a stream, without the stack that we have asked for."""
    path = verdict.seen.logs.get((rank, stream))
    if path is None:
        return ()
    found = verdict.where.get(rank)
    if stream == "stderr" and found is not None:
        try:
            text = path.read_bytes()[: found.stderr_end].decode(errors="replace")
        except OSError:
            return ()
        return tuple(text.splitlines()[-SHOWN_LINES:])
    lines = tail(path, lines=SHOWN_LINES)
    return tuple(shorten("\n".join(lines)).splitlines()) if any(CRASH in line for line in lines) else lines


def shorten_line(line: str) -> str:
    """A line of a table, made harmless for a terminal."""
    return printable(line if len(line) <= WIDEST else f"{line[:WIDEST]}...")


def printable_text(text: str) -> str:
    """Several lines, made harmless for a terminal."""
    return "\n".join(map(printable, text.splitlines()))


def _report(rank: RankVerdict) -> pytest.TestReport | None:
    """The report of pytest on the phase that decided the fate of a rank."""
    if rank.told is None or not rank.told.report:
        return None
    data = deepcopy(rank.told.report)  # it is taken to pieces
    data.pop("$report_type", None)
    return pytest.TestReport._from_json(data)  # noqa: SLF001 - what xdist's reports go through
