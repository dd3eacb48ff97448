"""What became of a test on ranks: of each rank, and of the test as a whole."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pytest_derail.jobs.expectations import Account, could_clean_up, judge_left
from pytest_derail.ranks.phase_reports import RankTold, ReportTold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from derail.model.outcome import RankOutcome
    from derail.scenario.model import JobResult
    from pytest_derail.ranks.stacks import Whereabouts

Fate: TypeAlias = Literal["failed", "died", "hung", "skipped", "xfailed", "xpassed", "passed", "stopped"]

BAD: tuple[Fate, ...] = ("failed", "died", "hung")
SEEN_LATE = 0.02
"""Seconds by which the end of a process may be seen later than what it caused elsewhere: others notice it through their
connections while the launcher is still being woken."""


@dataclass(frozen=True, slots=True)
class RankVerdict:
    """What became of one rank.

    Attributes:
        rank: which.
        fate: how the test went in it.
        phase: the phase that it was in.
        at: monotonic seconds of that; None if unknown.
        words: how, in a line.
        told: the report that decided, if the rank has recorded one.
        record: all that the rank has recorded.
    """

    rank: int
    fate: Fate
    phase: str
    at: float | None
    words: str
    told: ReportTold | None = None
    record: RankTold = field(default_factory=RankTold)

    @property
    def exception(self) -> BaseException | None:
        """What was raised in it, if it could be brought here."""
        if self.told is None or not self.told.exception:
            return None
        try:
            found: Any = pickle.loads(self.told.exception)
        except KeyboardInterrupt:
            raise
        except BaseException:
            return None
        return found if isinstance(found, BaseException) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the test.

    Attributes:
        ranks: each rank.
        seen: the result of the job.
        timeout: the seconds that it was given.
        where: where ranks were that had to be stopped.
        problems: what is wrong besides what ranks did: faults that did not happen, processes that were left.
        limit: what says how long the test may take, if it is not its own timeout.
    """

    ranks: Mapping[int, RankVerdict]
    seen: JobResult
    timeout: float
    where: Mapping[int, Whereabouts]
    problems: tuple[str, ...]
    limit: str = ""

    @property
    def bad(self) -> list[RankVerdict]:
        """The ranks that failed, died or hung: the root cause first, the others in the order in which they did."""
        found = [rank for rank in self.ranks.values() if rank.fate in BAD]
        return sorted(found, key=lambda rank: (rank.fate == "hung", _order(rank), rank.rank))

    @property
    def failed(self) -> bool:
        """Whether the test failed."""
        return bool(self.bad or self.problems)

    @property
    def is_of_reports(self) -> bool:
        """Whether hooks of pytest in the ranks have decided: no rank died or hung, and nothing else is wrong."""
        return not self.problems and all(rank.fate == "failed" for rank in self.bad)

    @property
    def extras(self) -> list[tuple[int, ReportTold]]:
        """The reports of subtests and of other plugins, with their ranks, as they were logged."""
        found = [(number, report) for number, rank in self.ranks.items() for report in rank.record.extras]
        return sorted(found, key=lambda each: (each[1].at, each[0]))

    def first(self, fate: Fate) -> RankVerdict | None:
        """The first rank, by number, with this fate and a report that decided it."""
        found = (rank for _, rank in sorted(self.ranks.items()) if rank.fate == fate and rank.told is not None)
        return next(found, None)

    def reason(self, fate: Fate, *, of_test: str | None = None) -> str | None:
        """Why the first rank with this fate has it, and which that is if not all have it; None if none has.

        Args:
            fate: which.
            of_test: a reason that the whole test has, by its marker.
        """
        found = self.first(fate)
        if found is None or found.told is None:
            return None
        reason = found.told.reason
        is_of_all = reason == of_test or all(rank.fate == fate for rank in self.ranks.values())
        return reason if is_of_all else f"rank {found.rank}: {reason}"


def judge_ranks(
    seen: JobResult,
    told: Mapping[int, RankTold],
    where: Mapping[int, Whereabouts],
    *,
    late: Mapping[int, RankTold],
    timeout: float,
    files: Sequence[str] = (),
    over: bool = False,
    whole: bool = True,
) -> Verdict:
    """Put together what the launcher saw and what the ranks told.

    Args:
        seen: what the launcher saw.
        told: what each rank told.
        where: where ranks were that did not end.
        late: what those had told that were not done when the time was over.
        timeout: the seconds that the job was given.
        files: what lay in the temporary directory of the ranks at the end.
        over: whether the test was over in all ranks before any of them ended: how they ended is not its business.
        whole: whether each rank has a record of a test, which ends with it.
    """
    fates = {} if over else seen.ranks
    ranks = {
        rank: _judge_rank(rank, fates.get(rank), late.get(rank, report), late=rank in late)
        for rank, report in told.items()
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
    """The verdict on a rank in which the test would be taken for stopped, though nothing has stopped it."""
    if rank.fate != "stopped":
        return rank
    return replace(rank, fate="died", words=f"its record ends in {rank.phase}, before the end of the test")


def broken_off(verdict: Verdict, error: BaseException) -> Verdict:
    """The verdict on ranks that were stopped because ``error`` left the controller, and not because of one of them."""
    words = f"when the controller was broken off by {type(error).__name__}"
    ranks = {
        number: replace(rank, words=f"stopped in {rank.phase}, {words}") if rank.fate == "stopped" else rank
        for number, rank in verdict.ranks.items()
    }
    return replace(verdict, ranks=ranks)


def _judge_rank(rank: int, fate: RankOutcome | None, told: RankTold, *, late: bool) -> RankVerdict:
    """The fate of a rank: what a report of a phase says, how the rank ended, what its subtests say, in this order."""
    failed = told.first("failed")
    if failed is not None:
        return RankVerdict(rank, "failed", failed.when, failed.at, f"failed in {failed.when}", failed, told)
    if late:
        words = "did not end after the test; a thread of its own keeps it" if told.done else f"hung in {told.phase}"
        return RankVerdict(rank, "hung", told.phase, None, words, record=told)
    if fate is not None and fate.failed:
        ended = "still there" if fate.status is None else str(fate.status)
        without = " before the end of the test" if fate.status is not None and fate.status.ok else ""
        words = f"{ended}{without}" if told.phase == "done" else f"{ended}{without}, in {told.phase}"
        return RankVerdict(rank, "died", told.phase, fate.exited_at, words, record=told)
    subtests = [report for report in told.extras if report.result == "failed"]
    if subtests:
        reason = f"contains {len(subtests)} failed subtest{'s' if len(subtests) > 1 else ''}"
        whole = ReportTold(subtests[0].when, "failed", subtests[0].at, reason=reason, text=reason)
        return RankVerdict(rank, "failed", whole.when, whole.at, f"failed in {whole.when}", whole, told)
    results: tuple[Literal["xfailed", "skipped", "xpassed"], ...] = ("xfailed", "skipped", "xpassed")
    for result in results:
        phase = told.first(result)
        if phase is not None:
            return RankVerdict(rank, result, phase.when, phase.at, f"{result}: {phase.reason}", phase, told)
    if told.done:
        return RankVerdict(rank, "passed", "done", None, "passed", record=told)
    words = f"stopped in {told.phase}, because of another rank"
    return RankVerdict(rank, "stopped", told.phase, None, words, record=told)


def _order(rank: RankVerdict) -> float:
    if rank.at is None:
        return float("inf")
    return rank.at - SEEN_LATE if rank.fate == "died" else rank.at
