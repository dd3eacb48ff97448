"""What became of a test on ranks: of each rank, and of the test as a whole."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pytest_derail.accounts import Account
from pytest_derail.judgement import could_clean_up, judge_left

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from derail.model.outcome import RankOutcome
    from derail.scenario.model import Observation
    from pytest_derail.rank_report import PhaseTold, RankTold
    from pytest_derail.where import Whereabouts

Fate: TypeAlias = Literal["failed", "died", "hung", "skipped", "xfailed", "passed", "stopped"]

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
        at: monotonic seconds of that; None if nobody knows.
        words: how, in a line.
        told: the phase that decided, if the rank has told of one.
    """

    rank: int
    fate: Fate
    phase: str
    at: float | None
    words: str
    told: PhaseTold | None = None

    @property
    def exception(self) -> BaseException | None:
        """What was raised in it, if it could be brought here."""
        if self.told is None or not self.told.exception:
            return None
        try:
            found: Any = pickle.loads(self.told.exception)
        except Exception:  # its class may not be importable here
            return None
        return found if isinstance(found, BaseException) else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the test.

    Attributes:
        ranks: each rank.
        seen: what was observed of the job.
        timeout: the seconds that it was given.
        where: where ranks were that had to be stopped.
        problems: what is wrong besides what ranks did: faults that did not happen, processes that were left.
        limit: what says how long the test may take, if it is not its own timeout.
    """

    ranks: Mapping[int, RankVerdict]
    seen: Observation
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

    def reason(self, fate: Fate) -> str | None:
        """Why the first rank with this fate has it, and which that is if not all have it; None if none has."""
        found = [rank for _, rank in sorted(self.ranks.items()) if rank.fate == fate and rank.told is not None]
        if not found or found[0].told is None:
            return None
        reason = found[0].told.reason
        return reason if len(found) == len(self.ranks) else f"rank {found[0].rank}: {reason}"


def judge_ranks(
    seen: Observation,
    told: Mapping[int, RankTold],
    where: Mapping[int, Whereabouts],
    *,
    late: Mapping[int, RankTold],
    timeout: float,
    files: Sequence[str] = (),
    over: bool = False,
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
    """
    fates = {} if seen.outcome is None or over else seen.outcome.ranks
    ranks = {
        rank: _judge_rank(rank, fates.get(rank), late.get(rank, report), late=rank in late)
        for rank, report in told.items()
    }
    problems = [f"a fault did not verifiably happen: {fault}" for fault in seen.faults if not fault.injected]
    problems += [f"left behind: {left}" for left in judge_left(seen, Account())]
    if seen.outcome is not None and could_clean_up(seen.outcome):
        problems += [f"left behind: file in the ranks' TMPDIR: {name}" for name in files]
    if seen.error:
        problems.append(f"the launcher broke: {seen.error}")
    return Verdict(ranks, seen, timeout, where, tuple(problems))


def broken_off(verdict: Verdict, error: BaseException) -> Verdict:
    """The verdict on ranks that were stopped because ``error`` left the controller, and not because of one of them."""
    words = f"when the controller was broken off by {type(error).__name__}"
    ranks = {
        number: replace(rank, words=f"stopped in {rank.phase}, {words}") if rank.fate == "stopped" else rank
        for number, rank in verdict.ranks.items()
    }
    return replace(verdict, ranks=ranks)


def _judge_rank(rank: int, fate: RankOutcome | None, told: RankTold, *, late: bool) -> RankVerdict:
    failed = told.first("failed")
    if failed is not None:
        return RankVerdict(rank, "failed", failed.when, failed.at, f"failed in {failed.when}", failed)
    if late:
        words = "did not end after the test; a thread of its own keeps it" if told.done else f"hung in {told.phase}"
        return RankVerdict(rank, "hung", told.phase, None, words)
    if fate is not None and fate.failed:
        ended = "still there" if fate.status is None else str(fate.status)
        without = " before the end of the test" if fate.status is not None and fate.status.ok else ""
        words = f"{ended}{without}" if told.phase == "done" else f"{ended}{without}, in {told.phase}"
        return RankVerdict(rank, "died", told.phase, fate.exited_at, words)
    for result in ("xfailed", "skipped"):
        phase = told.first(result)
        if phase is not None:
            return RankVerdict(rank, result, phase.when, phase.at, f"{result}: {phase.reason}", phase)
    if told.done:
        return RankVerdict(rank, "passed", "done", None, "passed")
    return RankVerdict(rank, "stopped", told.phase, None, f"stopped in {told.phase}, because of another rank")


def _order(rank: RankVerdict) -> float:
    if rank.at is None:
        return float("inf")
    return rank.at - SEEN_LATE if rank.fate == "died" else rank.at
