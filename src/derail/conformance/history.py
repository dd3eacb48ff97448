"""History of a rehearsal as a value: read from a plan, performed on a launcher, and reduced."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from derail.faults.model.triggers import Restart, walk
from derail.model.exit import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from derail.conformance.driver import Rehearsal
    from derail.faults.model.plan import Fault, Plan

KNOWN = "exit, orphan, signal, stop, ignore_signal and exit_zero_handler"
"""Faults that a rehearsal generates."""


@dataclass(frozen=True, slots=True)
class History:
    """Actions of a rehearsal.

    Attributes:
        ranks: the number of ranks of each job.
        jobs: the faults of each job, in order. Those that end a rank at the same moment act together.
        stopped: the jobs, counted from 0, that the launcher is asked to stop at their end.
    """

    ranks: int
    jobs: tuple[tuple[Fault, ...], ...]
    stopped: frozenset[int] = frozenset()

    @classmethod
    def of(cls, plan: Plan, *, ranks: int, restarts: int = 0, stopped: Collection[int] = ()) -> History:
        """Return the history of a plan.

        Raises:
            ValueError: if the plan has a fault that no rehearsal generates, or one for a rank that does not exist.
        """
        for fault in plan.faults:
            if not isinstance(fault.target, int) or not 0 <= fault.target < ranks:
                raise ValueError(f"{fault}: a rehearsal needs the number of one of {ranks} rank(s)")
            if fault.name not in KNOWN.replace(" and", ",").split(", "):
                raise ValueError(f"{fault}: a rehearsal supports only {KNOWN}")
        last = max([restarts, *map(_attempt, plan.faults)])
        jobs = (tuple(fault for fault in plan.faults if _attempt(fault) == number) for number in range(last + 1))
        return cls(ranks, tuple(jobs), frozenset(stopped))

    def perform(self, rehearsal: Rehearsal) -> None:
        """Perform all actions, and judge each job.

        Raises:
            ValueError: if an action concerns a rank that has ended or is stopped.
            BrokenPromise: if the launcher makes an error.
        """
        for number, job in enumerate(self.jobs):
            rehearsal.start()
            for (_, at_once), group in groupby(job, key=lambda fault: (fault.when, _end(fault) is not None)):
                given = list(group)
                ends = {_rank(fault): end for fault in given if at_once and (end := _end(fault)) is not None}
                if len(ends) > 1:
                    rehearsal.fail_together(ends)
                else:
                    for fault in given:
                        _perform(rehearsal, fault)
            (rehearsal.stop if number in self.stopped else rehearsal.finish)()

    def smaller(self) -> Iterator[History]:
        """Yield histories with one element less: a job, a fault, a stop, a rank."""
        for number, job in enumerate(self.jobs):
            if len(self.jobs) > 1:
                yield replace(
                    self,
                    jobs=self.jobs[:number] + self.jobs[number + 1 :],
                    stopped=frozenset(one - (one > number) for one in self.stopped if one != number),
                )
            for place in range(len(job)):
                rest = (*job[:place], *job[place + 1 :])
                yield replace(self, jobs=(*self.jobs[:number], rest, *self.jobs[number + 1 :]))
        for number in self.stopped:
            yield replace(self, stopped=self.stopped - {number})
        used = {_rank(fault) for job in self.jobs for fault in job}
        for unused in sorted(set(range(self.ranks)) - used) if self.ranks > 1 else ():
            moved = (tuple(_moved(fault, beyond=unused) for fault in job) for job in self.jobs)
            yield replace(self, ranks=self.ranks - 1, jobs=tuple(moved))

    def smallest(self, breaks: Callable[[History], bool], *, tries: int = 60) -> History:
        """Return the smallest history that still breaks the launcher, by removing one element after the other."""
        smallest, rest = self, self.smaller()
        for _ in range(tries):
            candidate = next(rest, None)
            if candidate is None:
                break
            if breaks(candidate):
                smallest, rest = candidate, candidate.smaller()
        return smallest


def _perform(rehearsal: Rehearsal, fault: Fault) -> None:
    rank = _rank(fault)
    match fault.name:
        case "exit" | "orphan":
            rehearsal.fail(rank, int(str(fault.param("code"))), helper=fault.name == "orphan")
        case "signal":
            rehearsal.signal(rank, str(fault.param("signal")))
        case "stop":
            rehearsal.signal(rank, "SIGSTOP")
        case "ignore_signal":
            rehearsal.arm(rank, "ignores")
        case _:
            rehearsal.arm(rank, "leaves")


def _rank(fault: Fault) -> int:
    return fault.target if isinstance(fault.target, int) else -1


def _moved(fault: Fault, *, beyond: int) -> Fault:
    """Return the fault with its rank renumbered after the removal of rank ``beyond``."""
    rank = _rank(fault)
    return replace(fault, target=rank - 1) if rank > beyond else fault


def _attempt(fault: Fault) -> int:
    """Return the restart at which a fault acts."""
    return next((trigger.n for trigger in walk(fault.when) if isinstance(trigger, Restart)), 0)


def _end(fault: Fault) -> ExitStatus | None:
    """Return the exit status from a fault that ends a rank for certain; None for other faults."""
    if fault.name == "exit":
        return ExitStatus(code=int(str(fault.param("code"))))
    if fault.name == "signal" and fault.param("signal") == "SIGKILL":
        return ExitStatus(signal=int(signal.SIGKILL))
    return None
