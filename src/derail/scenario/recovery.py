"""Recovery of a job from its faults, measured from its journal: how soon it is noticed, stopped, and run again. Pure.

All times are of the monotonic clock. What a journal does not show is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from math import inf, isfinite
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from derail.faults.engine.journal import Record

STEP = r"(?:^|: )step (\d+)\b"
"""Pattern of the step lines that derail's own workers print: ``step 3`` and ``rank 0: step 3``."""
Measure: TypeAlias = Literal["notice", "stop", "recover", "lost-steps"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
OF_RESTARTS: frozenset[Measure] = frozenset({"recover", "lost-steps"})
"""Measures of jobs whose ranks are started again."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Recovery from the first fault that made a rank fail; a value is None if it is unknown or never came.

    Attributes:
        notice: seconds from the fault to the first reaction of the launcher: it stops another rank, starts the next
            attempt, or ends.
        stop: seconds from the fault until all ranks of that attempt had ended.
        recover: seconds from the fault to the first step line of the next attempt.
        lost_steps: the number of steps that were reached before and are run again.
        failed: whether a fault made a rank fail.
        stepped: whether a rank of that attempt wrote a step line.
    """

    notice: float | None = None
    stop: float | None = None
    recover: float | None = None
    lost_steps: int | None = None
    failed: bool = False
    stepped: bool = False

    def value(self, measure: Measure) -> float | None:
        """Return one measure: seconds, or a number of steps."""
        return {"notice": self.notice, "stop": self.stop, "recover": self.recover, "lost-steps": self.lost_steps}[
            measure
        ]

    def __str__(self) -> str:
        """Return the known measures as text; empty if there are none."""
        words: dict[Measure, str] = {"notice": "noticed after", "stop": "stopped after", "recover": "ran again after"}
        texts = [
            f"{word} {shown(each, value)}" for each, word in words.items() if (value := self.value(each)) is not None
        ]
        if self.lost_steps is not None:
            texts.append(f"{shown('lost-steps', self.lost_steps)} lost")
        return ", ".join(texts)


def shown(measure: Measure, value: float) -> str:
    """Return a measure with its unit; a time below a second with milliseconds."""
    if measure == "lost-steps":
        return f"{value:g} step{'' if value == 1 else 's'}"
    return f"{value:.3f} s" if value < 1 else f"{value:.2f} s"


@dataclass(slots=True)
class Life:
    """One process of one rank, from its records. Times are None if the journal has no such record.

    Attributes:
        rank: the rank.
        began: when it was started.
        ended: when it ended.
        status: its exit status in words; empty if it is unknown.
        signalled: when the launcher first signalled it.
        first: its first step, and the time of that line.
        last: its last step, and the time of that line.
        reached: the last step of all ranks when it ended.
    """

    rank: int
    began: float
    ended: float | None = None
    status: str = ""
    signalled: float | None = None
    first: tuple[int, float] | None = None
    last: tuple[int, float] | None = None
    reached: int | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended other than with exit code 0."""
        return self.ended is not None and self.status != "exit 0"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of all ranks: the n-th process of each.

    Attributes:
        lives: its processes.
        next_began: when the first process of the next attempt was started; None if there was none.
    """

    lives: tuple[Life, ...]
    next_began: float | None = None

    @property
    def began(self) -> float:
        """When its first rank was started."""
        return min(life.began for life in self.lives)

    @property
    def ended(self) -> float | None:
        """When its last rank had ended; None if one never did."""
        ends = [life.ended for life in self.lives]
        known = [end for end in ends if end is not None]
        return max(known) if len(known) == len(ends) else None

    @property
    def first(self) -> tuple[int, float] | None:
        """First step of any rank, and the time of that line."""
        return min((life.first for life in self.lives if life.first), key=lambda first: first[1], default=None)

    @property
    def last(self) -> tuple[int, float] | None:
        """Highest step of any rank, and the time of that line."""
        lasts = [life.last or life.first for life in self.lives]
        return max((last for last in lasts if last), key=lambda last: (last[0], -last[1]), default=None)


@dataclass(slots=True)
class Run:
    """Run of a job according to the records of its journal.

    Attributes:
        began: when the launcher began; None without any record.
        over: when the job had ended, or was asked to end from outside; None if the journal shows neither.
        cut: whether it was ended from outside: what happens from ``over`` on is no reaction of the launcher.
        attempts: its attempts, in order.
        faults: the rank and time of each fault that began to act on a rank, in order.
        agent_ended: when the first process of the launcher ended.
    """

    began: float | None = None
    over: float | None = None
    cut: bool = False
    attempts: tuple[Attempt, ...] = ()
    faults: list[tuple[int, float]] = field(default_factory=list)
    agent_ended: float | None = None

    @property
    def limit(self) -> float:
        """Time until which events count as reactions."""
        return self.over if self.cut and self.over is not None else inf


def read_run(records: Sequence[Record]) -> Run:
    """Return the last run in the records of a journal, whatever its content."""
    plans = [place for place, record in enumerate(records) if record["event"] == "plan"]
    timed = [(_time(record), record) for record in records[plans[-1] + 1 if plans else 0 :]]
    ordered = sorted(((at, record) for at, record in timed if isfinite(at)), key=lambda pair: pair[0])
    run, lives = Run(began=ordered[0][0] if ordered else None), dict[int, list[Life]]()
    for at, record in ordered:
        _take(run, lives, at, record)
    levels = max(map(len, lives.values()), default=0)
    grouped = [tuple(of_rank[level] for of_rank in lives.values() if level < len(of_rank)) for level in range(levels)]
    begins = [min(life.began for life in group) for group in grouped]
    run.attempts = tuple(map(Attempt, grouped, [*begins[1:], None]))
    return run


def _take(run: Run, lives: dict[int, list[Life]], at: float, record: Record) -> None:
    event, rank = record["event"], record.get("rank")
    if event == "agent_exited" and run.agent_ended is None:
        run.agent_ended = at
    elif event in ("stop_requested", "finished") and run.over is None:
        run.over, run.cut = at, event == "stop_requested" or record.get("timed_out") is True
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
        return
    if event == "start":
        run.faults.append((rank, at))
    elif event == "started":
        lives.setdefault(rank, []).append(Life(rank, at))
    elif rank in lives:
        life, step = lives[rank][-1], record.get("step")
        match event:
            case "exited" if life.ended is None:
                life.ended, life.status = at, str(record.get("status", ""))
            case "signal_sent" if life.signalled is None:
                life.signalled = at
            case "step" if isinstance(step, int) and life.first is None:
                life.first = (step, at)
            case "last_step" if isinstance(step, int):
                reached = record.get("reached")
                life.last, life.reached = (step, at), reached if isinstance(reached, int) else step


def _time(record: Record) -> float:
    """Return the time of a record: when derail learned of the event, or when it was written."""
    at = record.get("seen_at", record.get("at"))
    return float(at) if isinstance(at, int | float) and not isinstance(at, bool) else float("nan")


def recoveries(run: Run) -> Iterator[Recovery]:
    """Yield the recovery of each attempt in which a fault made a rank fail."""
    earlier = -inf
    for attempt, following in zip_longest(run.attempts, run.attempts[1:]):
        fault = _fatal_fault(run, attempt, earlier)
        if fault is not None:
            yield _recovery(run, attempt, following, *fault)
        earlier = attempt.began if attempt.ended is None else attempt.ended


def recovery(run: Run) -> Recovery:
    """Return the recovery from the first fault that made a rank fail."""
    return next(recoveries(run), Recovery())


def _fatal_fault(run: Run, attempt: Attempt, earlier: float) -> tuple[float, Life] | None:
    """Return when the fault acted that made a rank of an attempt fail, and the rank that failed first by itself.

    It is the last fault before that on the same rank; else the last one on any rank. If no rank failed by itself,
    because one hung, the first rank that the launcher signalled takes its place.

    Args:
        run: the run.
        attempt: the attempt.
        earlier: the end of the attempt before.
    """
    failed = [life for life in attempt.lives if life.failed and life.ended is not None and life.ended <= run.limit]
    moments = [(life.ended, life) for life in failed if life.signalled is None] or [
        (life.signalled, life) for life in failed
    ]
    known = [(at, life) for at, life in moments if at is not None]
    if not known:
        return None
    moment, victim = min(known, key=lambda pair: pair[0])
    acted = [(rank, at) for rank, at in run.faults if earlier < at <= moment]
    times = [at for rank, at in acted if rank == victim.rank] or [at for _, at in acted]
    return (times[-1], victim) if times else None


def _recovery(run: Run, attempt: Attempt, following: Attempt | None, fault: float, victim: Life) -> Recovery:
    ends = (attempt.next_began, run.agent_ended, None if run.cut else run.over)
    reactions = [at for at in (*(life.signalled for life in attempt.lives), *ends) if at is not None]
    again = None if following is None else following.first
    lost = None if again is None or victim.reached is None else max(0, victim.reached - again[0] + 1)
    return Recovery(
        notice=_since(fault, min((at for at in reactions if at >= fault), default=None), run),
        stop=_since(fault, attempt.ended, run),
        recover=_since(fault, None if again is None else again[1], run),
        lost_steps=lost,
        failed=True,
        stepped=any(life.first for life in attempt.lives),
    )


def _since(fault: float, at: float | None, run: Run) -> float | None:
    return None if at is None or at > run.limit else round(at - fault, 6)
