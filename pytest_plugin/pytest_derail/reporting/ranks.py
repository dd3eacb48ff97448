"""Report of a failed test on ranks: the root cause first, then every rank under its number."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from _pytest._code.code import ExceptionRepr, ReprExceptionInfo, ReprFileLocation, ReprTracebackNative
from _pytest.junitxml import xml_key

from derail.report.text import SHOWN_RANKS, TAIL_LINES, printable
from derail.scenario.observe import tail
from pytest_derail.ranks.stacks import places, shorten
from pytest_derail.reporting.sections import fault_lines, what_happened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pytest

    from derail.report.lanes import Timeline
    from pytest_derail.ranks.phase_reports import RecordedReport
    from pytest_derail.ranks.result import RankVerdict, Verdict

SHOWN_LINES = 100  # lines of a stream
WIDEST = 160  # characters of a line in the table of ranks
CRASH = "(most recent call first):"
"""Text in the stack that Python writes when it crashes, and not in an ordinary traceback."""


def shown(config: pytest.Config, verdict: Verdict) -> str:
    """Return the failure in one line."""
    if not verdict.bad:
        return verdict.problems[0]
    first = verdict.bad[0]
    if first.fate == "hung":
        hung = ", ".join(str(rank.rank) for rank in verdict.bad if rank.fate == "hung")
        culprits = () if verdict.seen.hang is None else verdict.seen.hang.culprits
        awaited = "".join(f"; rank {culprit.rank} {culprit.words}" for culprit in culprits[:1])
        return f"{verdict.limit or f'not over after {verdict.timeout:g} s'}: rank {hung} hung{awaited}"
    if first.fate == "died":
        return f"rank {first.rank}: {first.words}"
    return f"rank {first.rank}: {_message(config, first) or first.words}"


def sections_of(item: pytest.Function, verdict: Verdict, command: Iterable[str]) -> ExceptionRepr:
    """Return the whole report in pytest's own form, which reaches terminal, JUnit XML and other processes.

    ``command`` runs the test again.
    """
    first = verdict.bad[0] if verdict.bad else None
    longrepr: Any = None if first is None else _longrepr(item.config, first)
    message = shown(item.config, verdict)
    if not isinstance(longrepr, ExceptionRepr):
        text = "" if longrepr is None else str(longrepr)
        lines = [message, *(() if message.endswith(text) else text.splitlines())]
        if first is not None and first.fate == "died":
            lines += _death(first, verdict)
        longrepr = ReprExceptionInfo(ReprTracebackNative([f"{line}\n" for line in lines]), None)
    path, line, _ = item.reportinfo()
    crash = longrepr.reprcrash or ReprFileLocation(str(path), (line or 0) + 1, "")
    _set_crash(longrepr, ReprFileLocation(crash.path, crash.lineno, message))
    for name, text in rank_sections(item, verdict, command):
        longrepr.addsection(name, text)
    result: ExceptionRepr = longrepr
    return result


def extra_report(config: pytest.Config, rank: int, recorded: RecordedReport) -> pytest.TestReport | None:
    """Return the report of a subtest or another plugin, with its rank; None if it cannot be restored here."""
    report: Any = recorded.load(config)
    if report is None:
        return None
    report.user_properties = []  # they are properties of the test
    report.sections = [(f"{name} of rank {rank}", printable_text(text)) for name, text in report.sections]
    context = recorded.report.get("_subtest.context")
    if context is not None and getattr(report, "context", None) is not None:
        # pytest converts the values to text again whenever it restores the report.
        object.__setattr__(report.context, "kwargs", {**context["kwargs"], "rank": str(rank)})
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        _set_crash(report.longrepr, ReprFileLocation(crash.path, crash.lineno, f"rank {rank}: {crash.message}"))
    elif isinstance(report.longrepr, str):
        report.longrepr = f"rank {rank}: {report.longrepr}"
    result: pytest.TestReport = report
    return result


def count_subtest(item: pytest.Function, report: pytest.TestReport) -> None:
    """Count a failed subtest as pytest does in the process of the test: plugins that rerun tests read the count."""
    subtests = sys.modules.get("_pytest.subtests")  # since pytest 9
    if subtests is not None and report.failed and isinstance(report, subtests.SubtestReport):
        item.config.stash[subtests.failed_subtests_key][getattr(item, "id", item.nodeid)] += 1


def merge_named(values: Mapping[int, Sequence[tuple[str, Any]]]) -> list[tuple[str, Any]]:
    """Return the properties of all ranks: a shared value under its own name, else the name followed by the rank."""
    merged: list[tuple[str, Any]] = []
    for name in dict.fromkeys(name for named in values.values() for name, _ in named):
        of_ranks = {rank: [value for each, value in named if each == name] for rank, named in values.items()}
        first, *others = of_ranks.values()
        if all(other == first for other in others):
            merged += [(name, value) for value in first]
        else:
            merged += [(f"{name}[rank {rank}]", value) for rank, values_of in of_ranks.items() for value in values_of]
    return merged


def note_records(report: pytest.TestReport, config: pytest.Config, verdict: Verdict) -> None:
    """Add keywords and plugin attributes from the reports in the ranks to the report of the test."""
    deciding = [rank.report for rank in verdict.bad if rank.report is not None]
    others = [each for rank in verdict.ranks.values() for each in rank.record.phases if each.when == "call"]
    for recorded_report in (*deciding, *others):
        of_rank = recorded_report.load(config)
        if of_rank is None:
            continue
        report.keywords = {**of_rank.keywords, **report.keywords}
        for name, value in vars(of_rank).items():
            if name != "wasxfail":
                vars(report).setdefault(name, value)
    ranks = verdict.ranks.items()
    recorded = {
        "suite": merge_named({number: rank.record.suite_properties for number, rank in ranks}),
        "attributes": merge_named({number: rank.record.attributes for number, rank in ranks}),
    }
    if any(recorded.values()):
        vars(report)["derail_junit"] = recorded


def write_junit(config: pytest.Config, report: pytest.TestReport, recorded: Mapping[str, Any]) -> None:
    """Write properties of the suite and attributes of the test to JUnit XML."""
    xml: Any = config.stash.get(xml_key, None)
    if xml is None:
        return
    for name, value in recorded["suite"]:
        xml.add_global_property(name, value)
    for name, value in recorded["attributes"]:
        xml.node_reporter(report).add_attribute(name, value)


def _set_crash(longrepr: Any, crash: ReprFileLocation) -> None:
    """Set location and message for pytest's last lines; other processes restore both from the chain."""
    longrepr.reprcrash = crash
    chain = getattr(longrepr, "chain", None)
    if chain:
        traceback, _, description = chain[-1]
        longrepr.chain = [*chain[:-1], (traceback, crash, description)]


def _longrepr(config: pytest.Config, rank: RankVerdict) -> Any:
    """Return pytest's display of the report that decided the fate of a rank; its text if it cannot be restored here."""
    if rank.report is None:
        return None
    report = rank.report.load(config)
    return report.longrepr if report is not None and report.longrepr else rank.report.text or None


def _message(config: pytest.Config, rank: RankVerdict) -> str:
    """Return the same in one line."""
    longrepr = _longrepr(config, rank)
    crash = getattr(longrepr, "reprcrash", None)
    message = getattr(crash, "message", "") or str(longrepr or "")
    return message or ("" if rank.report is None else rank.report.reason)


def with_sections(longrepr: Any, sections: Iterable[tuple[str, str]]) -> ExceptionRepr:
    """Return a report of pytest with these sections added."""
    if not isinstance(longrepr, ExceptionRepr):
        longrepr = ReprExceptionInfo(ReprTracebackNative([f"{line}\n" for line in str(longrepr).splitlines()]), None)
    for name, text in sections:
        longrepr.addsection(name, text)
    result: ExceptionRepr = longrepr
    return result


def rank_sections(item: pytest.Function, verdict: Verdict, command: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the sections of a report on ranks, each with its title."""
    yield "ranks", "\n".join(_fates(item.config, verdict))
    if verdict.seen.hang is not None:
        yield "hang", printable_text(str(verdict.seen.hang))
    yield from _others(item.config, verdict)
    for title, text in [*places(verdict.where)][:SHOWN_RANKS]:
        yield title, printable_text(text)
    wanted = item.config.getoption("showcapture", "all")
    for name, text in captured(verdict):
        if wanted == "all" or wanted in name:
            yield name, text
    faults = "\n".join(fault_lines(verdict.seen))
    if faults:
        yield "faults", faults
    yield from what_happened(verdict.seen, lambda drawn: _with_verdicts(drawn, verdict))
    if verdict.seen.workdir is not None:
        yield "evidence", "\n".join([f"logs and journal: {verdict.seen.workdir}", *command])


def _with_verdicts(drawn: Timeline, verdict: Verdict) -> Timeline:
    """Return the timeline with the result of the test in each rank, instead of the function's return."""
    lanes = []
    for lane in drawn.lanes:
        rank = None if lane.rank is None else verdict.ranks.get(lane.rank)
        if rank is None or rank.fate in ("died", "stopped", "hung"):
            lanes.append(lane)
            continue
        words = printable(rank.words.splitlines()[0])
        marks = tuple(replace(mark, text=words) if mark.kind == "value" else mark for mark in lane.marks)
        lanes.append(replace(lane, fate=words, failed=rank.fate == "failed", marks=marks))
    return replace(drawn, lanes=tuple(lanes))


def _fates(config: pytest.Config, verdict: Verdict) -> Iterator[str]:
    for problem in verdict.problems:
        yield printable(problem)
    first = verdict.bad[0] if verdict.bad else None
    for number, rank in sorted(verdict.ranks.items()):
        mark = "  <- root cause" if rank is first and rank.fate != "hung" else ""
        message = f": {_message(config, rank)}".splitlines()[0] if rank.fate == "failed" else ""
        yield shorten_line(f"rank {number}: {rank.words}{'' if message == ': ' else message}") + mark


def _others(config: pytest.Config, verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Yield the ranks that failed besides the root cause; equal tracebacks are shown once."""
    by_text: dict[str, list[RankVerdict]] = {}
    for rank in verdict.bad[1 : SHOWN_RANKS + 1]:
        longrepr = _longrepr(config, rank)
        text = "\n".join(_death(rank, verdict)) if longrepr is None else str(longrepr)
        if text:
            by_text.setdefault(text, []).append(rank)
    main = str(_longrepr(config, verdict.bad[0]) or "") if verdict.bad else ""
    for text, ranks in by_text.items():
        names = ", ".join(str(rank.rank) for rank in ranks)
        yield (
            f"rank {names} also failed",
            f"same traceback as rank {verdict.bad[0].rank}" if text == main else text.strip("\n"),
        )


def _death(rank: RankVerdict, verdict: Verdict) -> Iterator[str]:
    """Yield what is known of a rank that died without a report: its error file, and its last lines."""
    failure = verdict.seen.failures.get(rank.rank)
    if failure is not None and failure.error_file == "good":
        yield from (printable(line) for line in failure.message.splitlines())
    for stream in ("stdout", "stderr"):
        lines = _lines(verdict, rank.rank, stream)[-TAIL_LINES:]
        if lines:
            yield f"last lines of its {stream}:"
            yield from (f"  {printable(line)}" for line in lines)


def captured(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Yield each rank's log records, report sections and output; failed ranks first."""
    for rank in _in_order(verdict):
        for name, text in verdict.ranks[rank].record.sections:
            yield f"{name} of rank {rank}", printable_text(text)
        for stream, text in _streams(verdict, rank):
            yield f"{stream} of rank {rank}", text


def outputs(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Yield the same for JUnit XML, which has one text for all log records, and one for each stream."""
    for rank in _in_order(verdict):
        for kind in ("log", "stdout", "stderr"):
            prefix = f"Captured {kind}"
            texts = [text for name, text in verdict.ranks[rank].record.sections if name.startswith(prefix)]
            texts += [text for stream, text in _streams(verdict, rank) if stream == kind]
            if texts:
                yield f"{prefix} of rank {rank}", printable_text("\n".join([f"rank {rank}:", *texts])) + "\n"


def _in_order(verdict: Verdict) -> list[int]:
    bad = [rank.rank for rank in verdict.bad]
    return [*bad, *(rank for rank in sorted(verdict.ranks) if rank not in bad)][:SHOWN_RANKS]


def _streams(verdict: Verdict, rank: int) -> Iterator[tuple[str, str]]:
    """Yield the last lines that a rank printed, unless the report of its death contains them already."""
    for stream in ("stdout", "stderr"):
        lines = _lines(verdict, rank, stream)
        if lines and (verdict.ranks[rank].fate != "died" or len(lines) > TAIL_LINES):
            yield stream, "\n".join(map(printable, lines))


def _lines(verdict: Verdict, rank: int, stream: Any) -> tuple[str, ...]:
    """Return the last lines of a stream, without the stack that derail has requested."""
    path = verdict.seen.logs.get((rank, stream))
    if path is None:
        return ()
    place = verdict.where.get(rank)
    if stream == "stderr" and place is not None:
        try:
            text = path.read_bytes()[: place.stderr_end].decode(errors="replace")
        except OSError:
            return ()
        return tuple(text.splitlines()[-SHOWN_LINES:])
    lines = tail(path, lines=SHOWN_LINES)
    return tuple(shorten("\n".join(lines)).splitlines()) if any(CRASH in line for line in lines) else lines


def shorten_line(line: str) -> str:
    """Return a line for a table, shortened and safe for a terminal."""
    return printable(line if len(line) <= WIDEST else f"{line[:WIDEST]}...")


def printable_text(text: str) -> str:
    """Return several lines, safe for a terminal."""
    return "\n".join(map(printable, text.splitlines()))
