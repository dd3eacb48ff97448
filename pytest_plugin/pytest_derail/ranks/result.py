"""Result of a test on ranks: of each rank, and of the test as a whole."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pytest_derail.jobs.expectations import Account, could_clean_up, judge_left
from pytest_derail.ranks.phase_reports import RankRecord, RecordedReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from derail.model.outcome import RankOutcome
    from derail.scenario.model import JobResult
    from pytest_derail.ranks.stacks import Whereabouts

Fate: TypeAlias = Literal["failed", "died", "hung", "skipped", "xfailed", "xpassed", "passed", "stopped"]

BAD: tuple[Fate, ...] = ("failed", "died", "hung")
SEEN_LATE = 0.02
"""Seconds by which the end of a process may be observed later than its effects on other processes: those notice it
through their connections before the launcher wakes up."""


class RanksFailed(Exception):  # noqa: N818 - a name of what happened reads best in a report
    """Failure of ranks: a death, a hang, or an exception that cannot be unpickled in the controller.

    The report of the test has all that is known.
    """


@dataclass(frozen=True, slots=True)
class RankVerdict:
    """Result of one rank.

    Attributes:
        rank: number of the rank.
        fate: the result of the test in it.
        phase: the phase that it was in.
        at: monotonic seconds of the result; None if unknown.
        words: a one-line description.
        report: the report that decided, if the rank has recorded one.
        record: everything that the rank has recorded.
    """

    rank: int
    fate: Fate
    phase: str
    at: float | None
    words: str
    report: RecordedReport | None = None
    record: RankRecord = field(default_factory=RankRecord)

    @property
    def exception(self) -> BaseException | None:
        """Exception raised in the rank, if it can be unpickled here."""
        if self.report is None or not self.report.exception:
            return None
        try:
            error: Any = pickle.loads(self.report.exception)
        except KeyboardInterrupt:
            raise
        except BaseException:
            return None
        return error if isinstance(error, BaseException) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of the test.

    Attributes:
        ranks: result of each rank.
        seen: the result of the job.
        timeout: time limit in seconds.
        where: stacks of the ranks that had to be stopped.
        problems: failures beyond those of the ranks: faults that did not happen, leftover processes.
        limit: description of the time limit, if it is not the test's own timeout.
    """

    ranks: Mapping[int, RankVerdict]
    seen: JobResult
    timeout: float
    where: Mapping[int, Whereabouts]
    problems: tuple[str, ...]
    limit: str = ""

    @property
    def bad(self) -> list[RankVerdict]:
        """Ranks that failed, died or hung: the root cause first, the others in the order of their failures."""
        bad = [rank for rank in self.ranks.values() if rank.fate in BAD]
        return sorted(bad, key=lambda rank: (rank.fate == "hung", _order(rank), rank.rank))

    @property
    def failed(self) -> bool:
        """Whether the test failed."""
        return bool(self.bad or self.problems)

    @property
    def is_of_reports(self) -> bool:
        """Whether hooks of pytest in the ranks have decided: no rank died or hung, and there is no other problem."""
        return not self.problems and all(rank.fate == "failed" for rank in self.bad)

    @property
    def extras(self) -> list[tuple[int, RecordedReport]]:
        """Reports of subtests and of other plugins, with their ranks, in the order in which they were logged."""
        extras = [(number, report) for number, rank in self.ranks.items() for report in rank.record.extras]
        return sorted(extras, key=lambda each: (each[1].at, each[0]))

    def first(self, fate: Fate) -> RankVerdict | None:
        """Return the first rank, by number, with this fate and a report that decided it."""
        ranks = (rank for _, rank in sorted(self.ranks.items()) if rank.fate == fate and rank.report is not None)
        return next(ranks, None)

    def reason(self, fate: Fate, *, of_test: str | None = None) -> str | None:
        """Return the reason of the first rank with this fate, prefixed with the rank unless all share the fate.

        Args:
            fate: the fate to look for.
            of_test: a reason that applies to the whole test, by its marker.

        Returns:
            The reason, or None if no rank has the fate.
        """
        first = self.first(fate)
        if first is None or first.report is None:
            return None
        reason = first.report.reason
        is_of_all = reason == of_test or all(rank.fate == fate for rank in self.ranks.values())
        return reason if is_of_all else f"rank {first.rank}: {reason}"


def judge_ranks(
    seen: JobResult,
    records: Mapping[int, RankRecord],
    where: Mapping[int, Whereabouts],
    *,
    late: Mapping[int, RankRecord],
    timeout: float,
    files: Sequence[str] = (),
    over: bool = False,
    whole: bool = True,
) -> Verdict:
    """Combine the result of the job with the records of the ranks.

    Args:
        seen: the result of the job.
        records: the record of each rank.
        where: stacks of the ranks that did not end.
        late: records, at the time limit, of the ranks that had not finished then.
        timeout: time limit of the job in seconds.
        files: names of the files left in the temporary directory of the ranks.
        over: whether the test was over in all ranks before any of them ended, so that their exits do not count.
        whole: whether each rank has a record of a test that must end with its end.
    """
    fates = {} if over else seen.ranks
    ranks = {
        rank: _judge_rank(rank, fates.get(rank), late.get(rank, report), late=rank in late)
        for rank, report in records.items()
    }
    if whole and not seen.stop_reason and all(rank.fate not in (*BAD, "xfailed") for rank in ranks.values()):
        ranks = {number: _without_end(rank) for number, rank in ranks.items()}
    problems = [f"a fault did not verifiably happen: {fault}" for fault in seen.faults if not fault.injected]
    problems += [f"left behind: {left}" for left in judge_left(seen, Account())]
    if seen.ran and could_clean_up(seen):
        problems += [f"left behind: file in the ranks' TMPDIR: {name}" for name in files]
    if seen.error:
        problems.append(f"the launcher broke: {seen.error}")
    return Verdict(ranks, seen, timeout, where, tuple(problems))


def _without_end(rank: RankVerdict) -> RankVerdict:
    """Return the verdict on a rank with a record that ends early; without a stop of the job the rank has died."""
    if rank.fate != "stopped":
        return rank
    return replace(rank, fate="died", words=f"its record ends in {rank.phase}, before the end of the test")


def broken_off(verdict: Verdict, error: BaseException) -> Verdict:
    """Return the verdict with the reason of stopped ranks: ``error`` interrupted the controller, not another rank."""
    words = f"when {type(error).__name__} interrupted the controller"
    ranks = {
        number: replace(rank, words=f"stopped in {rank.phase}, {words}") if rank.fate == "stopped" else rank
        for number, rank in verdict.ranks.items()
    }
    return replace(verdict, ranks=ranks)


def _judge_rank(rank: int, fate: RankOutcome | None, record: RankRecord, *, late: bool) -> RankVerdict:
    """Judge a rank by the report of a phase, then its exit, then its subtests."""
    failed = record.first("failed")
    if failed is not None:
        return RankVerdict(rank, "failed", failed.when, failed.at, f"failed in {failed.when}", failed, record)
    if late:
        words = "did not end after the test: a thread keeps it alive" if record.done else f"hung in {record.phase}"
        return RankVerdict(rank, "hung", record.phase, None, words, record=record)
    if fate is not None and fate.failed:
        ended = "still there" if fate.status is None else str(fate.status)
        without = " before the end of the test" if fate.status is not None and fate.status.ok else ""
        words = f"{ended}{without}" if record.phase == "done" else f"{ended}{without}, in {record.phase}"
        return RankVerdict(rank, "died", record.phase, fate.exited_at, words, record=record)
    subtests = [report for report in record.extras if report.result == "failed"]
    if subtests:
        reason = f"contains {len(subtests)} failed subtest{'s' if len(subtests) > 1 else ''}"
        whole = RecordedReport(subtests[0].when, "failed", subtests[0].at, reason=reason, text=reason)
        return RankVerdict(rank, "failed", whole.when, whole.at, f"failed in {whole.when}", whole, record)
    results: tuple[Literal["xfailed", "skipped", "xpassed"], ...] = ("xfailed", "skipped", "xpassed")
    for result in results:
        phase = record.first(result)
        if phase is not None:
            return RankVerdict(rank, result, phase.when, phase.at, f"{result}: {phase.reason}", phase, record)
    if record.done:
        return RankVerdict(rank, "passed", "done", None, "passed", record=record)
    words = f"stopped in {record.phase}, because of another rank"
    return RankVerdict(rank, "stopped", record.phase, None, words, record=record)


def _order(rank: RankVerdict) -> float:
    if rank.at is None:
        return float("inf")
    return rank.at - SEEN_LATE if rank.fate == "died" else rank.at
