"""Goodput of a job that is broken again and again: useful steps, per steps that an undisturbed job makes in that time.

The schedule of the breaks is a pure function of its seed. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from typing import TYPE_CHECKING

from derail.faults.model.plan import decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from derail.scenario.recovery import Recovery, Run

SCALE = 2.0**64
MOST_BREAKS = 10_000
"""Maximum number of breaks of one schedule; more make derail itself slow, and no interval narrower."""
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % quantiles of Student's t distribution for 1 to 30 degrees of freedom."""
Z_975 = 1.959964


@dataclass(frozen=True, slots=True)
class Break:
    """One planned break.

    Attributes:
        number: its number, from 1.
        at: seconds of the job's time.
        rank: the rank that is killed.
    """

    number: int
    at: float
    rank: int


def schedule(seed: int, *, mtbf: float, seconds: float, ranks: int) -> tuple[Break, ...]:
    """Return the breaks of a seed: exponential intervals with this mean, each followed by one rank's break.

    The interval and the rank of each break depend on the seed and its number only: a longer time adds breaks at the
    end, another mean stretches all intervals, and neither changes the ranks.

    Raises:
        ValueError: if there are too many breaks.
    """
    breaks: list[Break] = []
    at = 0.0
    while len(breaks) <= MOST_BREAKS:
        number = len(breaks) + 1
        at += -mtbf * log((decide(seed, "interval", number) + 0.5) / SCALE)
        if at >= seconds:
            return tuple(breaks)
        breaks.append(Break(number, at, decide(seed, "rank", number) % ranks))
    raise ValueError(f"more than {MOST_BREAKS} breaks in {seconds:g} s with a mean of {mtbf:g} s between them")


@dataclass(frozen=True, slots=True)
class Pace:
    """Progress of an undisturbed job.

    Attributes:
        startup: seconds from the start of the launcher to the first step line.
        rate: steps per second after that.
    """

    startup: float
    rate: float

    def steps(self, seconds: float) -> float:
        """Return the number of steps that it makes in a time from the start of its launcher."""
        return 0.0 if seconds < self.startup else 1.0 + (seconds - self.startup) * self.rate


def pace(run: Run) -> Pace | None:
    """Return the progress of an undisturbed run; None if its lines do not show two different steps."""
    if run.began is None or not run.attempts:
        return None
    first, last = run.attempts[0].first, run.attempts[0].last
    if first is None or last is None or last[0] <= first[0] or last[1] <= first[1]:
        return None
    return Pace(first[1] - run.began, (last[0] - first[0]) / (last[1] - first[1]))


@dataclass(frozen=True, slots=True)
class Goodput:
    """Useful steps of a broken job, compared with an undisturbed one.

    Attributes:
        useful: the number of different steps that were reached.
        seconds: the time of the job.
        quiet: the steps that an undisturbed job makes in that time.
        attempts: the number of attempts.
        half: half the width of the 95 % interval of ``value``; None for fewer than two attempts.
    """

    useful: int
    seconds: float
    quiet: float
    attempts: int
    half: float | None

    @property
    def value(self) -> float:
        """Useful steps per step of the undisturbed job."""
        return self.useful / self.quiet

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the value; None if it is unknown."""
        return None if self.half is None else (max(0.0, self.value - self.half), self.value + self.half)


def goodput(runs: Sequence[Run], undisturbed: Pace) -> Goodput | None:
    """Return the goodput of the runs of one job, which follow each other; None if they have no time.

    The interval is that of a ratio of means: each attempt is one pair of new steps and seconds, from the end of the
    attempt before to its own end. As breaks come at random, these pairs are independent; the standard error of the
    ratio follows from their residuals, and the factor is Student's t. The pace of the quiet run counts as exact.
    """
    pairs = list(_pairs(runs))
    steps, seconds = sum(new for new, _ in pairs), sum(took for _, took in pairs)
    quiet = undisturbed.steps(seconds)
    if not pairs or not seconds or not quiet:
        return None
    return Goodput(steps, seconds, quiet, len(pairs), _half(pairs) * seconds / quiet if len(pairs) > 1 else None)


def _pairs(runs: Sequence[Run]) -> Iterator[tuple[int, float]]:
    """Yield the number of new steps and the seconds of each attempt."""
    covered: list[tuple[int, int]] = []
    for run in runs:
        if run.began is None or run.over is None:
            continue
        earlier, over = run.began, run.over
        for attempt in run.attempts:
            ended = over if attempt is run.attempts[-1] or attempt.ended is None else min(attempt.ended, over)
            first, last = attempt.first, attempt.last
            new = 0 if first is None or last is None else _cover(covered, first[0], last[0])
            yield new, max(0.0, ended - earlier)
            earlier = max(earlier, ended)


def _cover(covered: list[tuple[int, int]], first: int, last: int) -> int:
    """Add the steps of an attempt to the ranges of steps that were reached, and return how many are new."""
    touching = [(low, high) for low, high in covered if low <= last + 1 and first - 1 <= high]
    whole = (min(first, *(low for low, _ in touching), last), max(last, *(high for _, high in touching), first))
    covered[:] = [each for each in covered if each not in touching] + [whole]
    return whole[1] - whole[0] + 1 - sum(high - low + 1 for low, high in touching)


def _half(pairs: Sequence[tuple[int, float]]) -> float:
    """Return half the width of the 95 % interval of steps per second."""
    many = len(pairs)
    ratio = sum(new for new, _ in pairs) / sum(took for _, took in pairs)
    variance = sum((new - ratio * took) ** 2 for new, took in pairs) / (many - 1)
    return student(many - 1) * sqrt(variance / many) / (sum(took for _, took in pairs) / many)


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution, from a table or, beyond 30, from its expansion."""
    return T_975[freedom - 1] if freedom <= len(T_975) else Z_975 + (Z_975**3 + Z_975) / (4 * freedom)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one break.

    Attributes:
        planned: the break.
        hit: whether a fault was verified on a rank.
        detail: the evidence, or the reason.
        fault: the fault, without its target and trigger.
    """

    planned: Break
    hit: bool
    detail: str
    fault: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurement of a job that is broken again and again.

    Attributes:
        scenario: name of the scenario.
        agent: name of the launcher.
        mtbf: mean seconds between two breaks.
        seconds: the time that was asked for.
        seed: the seed of the schedule.
        outcomes: the breaks.
        pace: the progress of an undisturbed run; None if it is unknown.
        goodput: the result; None if it could not be measured.
        recoveries: the recovery from each break that made a rank fail.
        started_again: why the whole job was started again, each time.
        ended: why it ended before its time; empty if it did not.
        problem: why there is no result, or no complete one; empty if there is none.
    """

    scenario: str
    agent: str
    mtbf: float
    seconds: float
    seed: int
    outcomes: tuple[Outcome, ...] = ()
    pace: Pace | None = None
    goodput: Goodput | None = None
    recoveries: tuple[Recovery, ...] = ()
    started_again: tuple[str, ...] = ()
    ended: str = ""
    problem: str = ""
