"""Scorecard of an agent as plain data: for each scenario, what the agent promises and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from derail.report.lanes import Timeline
from derail.scenario.model import ALL_PROMISES, EXIT_CODES, Finding, Kind, Promise
from derail.scenario.recovery import Recovery

if TYPE_CHECKING:
    from pathlib import Path

    from derail.faults.model.results import FaultResult
    from derail.scenario.model import JobResult, Scenario, Verdict
    from derail.scenario.recovery import Measure

FORMAT = 1  # version of the file format
TAIL_LINES = 8  # lines of the root cause's output
PROMISES: tuple[Promise, ...] = get_args(Promise)
KINDS: tuple[Kind, ...] = get_args(Kind)

Cell: TypeAlias = Literal["PASS", "FAIL", "n/a", "INCONCLUSIVE", "SKIPPED", ""]
Blame: TypeAlias = Literal["right", "wrong rank", "none", "never reports", ""]
"""Comparison of the agent's root cause with the expected one: right (also if none is right), another rank, none, or the
agent never reports one. Empty if the scenario expects none, or the run does not count."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Machine on which a scorecard was made."""

    system: str
    python: str
    cores: int
    uid: int


@dataclass(frozen=True, slots=True)
class Injected:
    """Fault of a run.

    Attributes:
        cause: its kind, without target and trigger: ``signal SIGKILL``.
        fault: its full description.
        rank: the rank that it hit; None if it was aimed at none.
        result: its result.
        detail: the evidence, or the reason.
    """

    cause: str
    fault: str
    rank: int | None
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario, and the agent's result.

    Attributes:
        scenario: its name.
        family: the first part of the name.
        title: the expected result, in a sentence.
        why: the failure that it protects against.
        issue: a report of that failure.
        ranks: the number of ranks.
        verdict: PASS, FAIL, INCONCLUSIVE or SKIPPED.
        reasons: why the verdict is not PASS.
        findings: each expectation, met or not.
        faults: the faults.
        blame: the reported root cause compared with the expected one.
        reported: description of the root cause that the agent reports.
        exit_code: the exit code of the agent.
        restarts: the number of restarts of all ranks.
        leftovers: what outlived its rank.
        seconds: from the start of the first rank to the end of the last.
        teardown_seconds: from the decision to stop to the end of the last rank.
        recovery: how soon the agent noticed the fault, stopped the job and ran it again.
        elapsed: seconds of the whole run.
        hang: the verdict on a job that timed out while its ranks recorded collectives, in lines.
        tail: the last lines of the reported root cause.
        timeline: the timeline of the run.
        evidence: the directory of journal and logs, if it was kept.
    """

    scenario: str
    verdict: Kind
    family: str = ""
    title: str = ""
    why: str = ""
    issue: str = ""
    ranks: int = 0
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    faults: tuple[Injected, ...] = ()
    blame: Blame = ""
    reported: str = ""
    exit_code: int | None = None
    restarts: int | None = None
    leftovers: tuple[str, ...] = ()
    seconds: float | None = None
    teardown_seconds: float | None = None
    recovery: Recovery = field(default_factory=Recovery)
    elapsed: float = 0.0
    hang: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    timeline: Timeline = field(default_factory=Timeline)
    evidence: str = ""

    def cell(self, promise: Promise) -> Cell:
        """Return the result of a promise in this scenario; empty if the scenario does not ask for it."""
        if self.verdict == "SKIPPED":
            return "SKIPPED"
        kept = [finding.kept for finding in self.findings if finding.promise == promise]
        if not kept:
            return ""
        if self.verdict == "INCONCLUSIVE":
            return "INCONCLUSIVE"
        return "FAIL" if False in kept else "n/a" if None in kept else "PASS"

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Expectations that were not met."""
        return tuple(finding for finding in self.findings if finding.kept is False)

    @property
    def cause(self) -> str:
        """Short description of the faults."""
        return " + ".join(dict.fromkeys(fault.cause for fault in self.faults)) or "nothing"


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Results of an agent in many scenarios.

    Attributes:
        agent: its name.
        version: version of the launcher.
        promises: its promises.
        machine: the machine.
        date: the beginning, in UTC: ``2026-11-22T22:40:00Z``.
        seconds: duration.
        derail: the version of derail.
        rows: one for each scenario, in the order of their names.
        format: version of the file format.
    """

    agent: str
    version: str
    promises: tuple[Promise, ...]
    machine: Machine
    date: str
    seconds: float
    derail: str
    rows: tuple[Row, ...]
    format: int = FORMAT

    @property
    def counts(self) -> dict[Kind, int]:
        """Number of scenarios with each verdict."""
        return {kind: sum(row.verdict == kind for row in self.rows) for kind in KINDS}

    @property
    def exit_code(self) -> int:
        """Exit code of ``derail verify-agent``: that of the worst verdict; 4 only if nothing could be run."""
        counts = self.counts
        worst: tuple[Kind, ...] = ("FAIL", "INCONCLUSIVE", "PASS", "SKIPPED")
        return next((EXIT_CODES[kind] for kind in worst if counts[kind]), EXIT_CODES["SKIPPED"])

    def measured(self, measure: Measure) -> list[tuple[float, Row]]:
        """Return the values of one measure of the recovery, with their rows, the smallest first."""
        values = [(value, row) for row in self.rows if (value := row.recovery.value(measure)) is not None]
        return sorted(values, key=lambda pair: pair[0])

    @property
    def asked(self) -> tuple[Promise, ...]:
        """Promises that at least one scenario asks for, in the usual order."""
        asked = {finding.promise for row in self.rows for finding in row.findings}  # "budget" is no promise
        return tuple(promise for promise in PROMISES if promise in asked)

    def promise_counts(self) -> dict[Promise, dict[Cell, int]]:
        """Return how often each promise was kept, broken, or never made."""
        cells: tuple[Cell, ...] = ("PASS", "FAIL", "INCONCLUSIVE", "n/a")
        return {
            promise: {cell: sum(row.cell(promise) == cell for row in self.rows) for cell in cells}
            for promise in self.asked
        }

    def attribution(self) -> dict[str, dict[Blame, tuple[str, ...]]]:
        """Return, by injected cause, how the agent's root causes compare: the names of the scenarios of each kind."""
        matrix: dict[str, dict[Blame, tuple[str, ...]]] = {}
        for row in sorted(self.rows, key=lambda row: row.cause):
            if row.blame:
                line = matrix.setdefault(row.cause, {})
                line[row.blame] = (*line.get(row.blame, ()), row.scenario)
        return matrix


def row(
    scenario: Scenario,
    seen: JobResult,
    verdict: Verdict,
    *,
    promises: frozenset[Promise] = ALL_PROMISES,
    timeline: Timeline,
    elapsed: float = 0.0,
    evidence: Path | None = None,
) -> Row:
    """Return the row of a run."""
    judged = verdict.kind in ("PASS", "FAIL")
    return Row(
        scenario=scenario.name,
        family=scenario.family,
        title=scenario.title,
        why=scenario.why,
        issue=scenario.issue,
        ranks=scenario.ranks,
        verdict=verdict.kind,
        reasons=verdict.reasons,
        findings=verdict.findings,
        faults=tuple(map(_injected, seen.faults)),
        blame=_blame(scenario, seen, promises) if judged else "",
        reported=_reported(seen, promises),
        exit_code=seen.exit_code,
        restarts=seen.restarts,
        leftovers=tuple(scenario.named(str(left)) for left in seen.leftovers),
        seconds=seen.seconds,
        teardown_seconds=seen.teardown_seconds,
        recovery=seen.recovery,
        elapsed=elapsed,
        hang=() if seen.hang is None else seen.hang.lines,
        tail=_tail(seen),
        timeline=timeline,
        evidence="" if evidence is None else str(evidence),
    )


def _injected(result: FaultResult) -> Injected:
    given = dict(result.fault.params)
    word = next(
        (_shown(given[name]) for name in ("signal", "signals", "type", "content", "errno") if name in given), ""
    )
    cause = f"{result.fault.name} {word}".strip()
    return Injected(cause, str(result.fault), result.rank, result.status, result.detail)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _blame(scenario: Scenario, seen: JobResult, promises: frozenset[Promise]) -> Blame:
    expect = scenario.expect
    if scenario.launches or not seen.ran or (expect.root_cause is None and not expect.succeeded):
        return ""
    if "root_cause" not in promises:
        return "never reports"
    if seen.root_cause == expect.root_cause:
        return "right"
    return "none" if seen.root_cause is None else "wrong rank"


def _reported(seen: JobResult, promises: frozenset[Promise]) -> str:
    rank = seen.root_cause
    if seen.error:
        return f"it broke: {seen.error}"
    if rank is None:
        return "none" if "root_cause" in promises else "never reports"
    status = seen.failures[rank].status if rank in seen.failures else None
    return f"rank {rank}" if status is None else f"rank {rank}: {status}"


def _tail(seen: JobResult) -> tuple[str, ...]:
    for stream in ("stderr", "stdout"):
        for (rank, name), lines in seen.log_tail.items():
            if rank == seen.root_cause and name == stream and lines:
                return lines[-TAIL_LINES:]
    return ()
