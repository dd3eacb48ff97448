"""The scorecard of an agent: scenario by scenario what it promises and what it did. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from derail.report.lanes import Timeline
from derail.scenario.model import ALL_PROMISES, EXIT_CODES, Finding, Kind, Promise

if TYPE_CHECKING:
    from pathlib import Path

    from derail.faults.model.results import FaultResult
    from derail.scenario.model import JobResult, Scenario, Verdict

FORMAT = 1
TAIL_LINES = 8
PROMISES: tuple[Promise, ...] = get_args(Promise)
KINDS: tuple[Kind, ...] = get_args(Kind)

Cell: TypeAlias = Literal["PASS", "FAIL", "n/a", "INCONCLUSIVE", "SKIPPED", ""]
Blame: TypeAlias = Literal["right", "wrong rank", "nobody", "never tells", ""]
"""Whom an agent blames: the rank that is to blame (or nobody, rightly), another one, nobody, or it never says. Empty
where the scenario does not say who is to blame, or the run does not count."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a scorecard was made."""

    system: str
    python: str
    cores: int
    uid: int


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault of a run.

    Attributes:
        cause: what it does, without whom and when: ``signal SIGKILL``.
        fault: all of it.
        rank: which rank it hit; None if it was aimed at none.
        result: what came of it.
        detail: the evidence, or the reason.
    """

    cause: str
    fault: str
    rank: int | None
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario, and what the agent made of it.

    Attributes:
        scenario: its name.
        family: the first part of that.
        title: what must come of it, in a sentence.
        why: what it protects against.
        issue: where somebody met it.
        ranks: how many.
        verdict: PASS, FAIL, INCONCLUSIVE or SKIPPED.
        reasons: why it is not PASS.
        findings: each expectation, met or not.
        faults: what was broken.
        blame: whom the agent blames, held against whom it should.
        reported: the cause that the agent reports, in words.
        exit_code: what it exited with.
        restarts: how often it started all ranks again.
        leftovers: what outlived its rank.
        seconds: from the start of the first rank to the end of the last.
        teardown_seconds: from the decision to stop to the end of the last rank.
        elapsed: all that the run took.
        tail: the last lines of the rank that is blamed.
        timeline: what happened.
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
    elapsed: float = 0.0
    tail: tuple[str, ...] = ()
    timeline: Timeline = field(default_factory=Timeline)
    evidence: str = ""

    def cell(self, promise: Promise) -> Cell:
        """What became of a promise in this scenario; empty if it was not asked for."""
        if self.verdict == "SKIPPED":
            return "SKIPPED"
        found = [finding.kept for finding in self.findings if finding.promise == promise]
        if not found:
            return ""
        if self.verdict == "INCONCLUSIVE":
            return "INCONCLUSIVE"
        return "FAIL" if False in found else "n/a" if None in found else "PASS"

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The expectations that were not met."""
        return tuple(finding for finding in self.findings if finding.kept is False)

    @property
    def cause(self) -> str:
        """What was broken, in few words."""
        return " + ".join(dict.fromkeys(fault.cause for fault in self.faults)) or "nothing"


@dataclass(frozen=True, slots=True)
class Scorecard:
    """What an agent made of many scenarios.

    Attributes:
        agent: its name.
        version: of the supervisor.
        promises: what it promises.
        machine: where it ran.
        date: when it was begun, in UTC: ``2026-11-22T22:40:00Z``.
        seconds: how long it took.
        derail: the version of derail.
        rows: one for each scenario, in the order of their names.
        format: of the file.
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
        """How many scenarios have each verdict."""
        return {kind: sum(row.verdict == kind for row in self.rows) for kind in KINDS}

    @property
    def exit_code(self) -> int:
        """What ``derail verify-agent`` exits with: the worst that there is; 4 only if nothing could be run."""
        counts = self.counts
        worst: tuple[Kind, ...] = ("FAIL", "INCONCLUSIVE", "PASS", "SKIPPED")
        return next((EXIT_CODES[kind] for kind in worst if counts[kind]), EXIT_CODES["SKIPPED"])

    @property
    def asked(self) -> tuple[Promise, ...]:
        """The promises that some scenario asks for, in the order in which they are always told."""
        asked = {finding.promise for row in self.rows for finding in row.findings}
        return tuple(promise for promise in PROMISES if promise in asked)

    def promise_counts(self) -> dict[Promise, dict[Cell, int]]:
        """How often each promise was kept, broken, or never made."""
        cells: tuple[Cell, ...] = ("PASS", "FAIL", "INCONCLUSIVE", "n/a")
        return {
            promise: {cell: sum(row.cell(promise) == cell for row in self.rows) for cell in cells}
            for promise in self.asked
        }

    def attribution(self) -> dict[str, dict[Blame, tuple[str, ...]]]:
        """By cause that was injected, whom the agent blamed: the names of the scenarios of each kind."""
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
    """The row of a run."""
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
        elapsed=elapsed,
        tail=_tail(seen),
        timeline=timeline,
        evidence="" if evidence is None else str(evidence),
    )


def _injected(told: FaultResult) -> Injected:
    given = dict(told.fault.params)
    word = next(
        (_shown(given[name]) for name in ("signal", "signals", "type", "content", "errno") if name in given), ""
    )
    return Injected(f"{told.fault.name} {word}".strip(), str(told.fault), told.rank, told.status, told.detail)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _blame(scenario: Scenario, seen: JobResult, promises: frozenset[Promise]) -> Blame:
    expect = scenario.expect
    if scenario.launches or not seen.ran or (expect.root_cause is None and not expect.succeeded):
        return ""
    if "root_cause" not in promises:
        return "never tells"
    if seen.root_cause == expect.root_cause:
        return "right"
    return "nobody" if seen.root_cause is None else "wrong rank"


def _reported(seen: JobResult, promises: frozenset[Promise]) -> str:
    rank = seen.root_cause
    if seen.error:
        return f"it broke: {seen.error}"
    if rank is None:
        return "nobody" if "root_cause" in promises else "never tells"
    status = seen.failures[rank].status if rank in seen.failures else None
    return f"rank {rank}" if status is None else f"rank {rank}: {status}"


def _tail(seen: JobResult) -> tuple[str, ...]:
    for stream in ("stderr", "stdout"):
        for (rank, name), lines in seen.log_tail.items():
            if rank == seen.root_cause and name == stream and lines:
                return lines[-TAIL_LINES:]
    return ()
