"""The outcome of a job, per rank and as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from derail.errors.failure import ProcessFailure
    from derail.model.exit import ExitStatus


LONGEST = 120
"""Characters shown of the command line of a leftover."""


class Cause(Enum):
    """Reason why a rank no longer runs."""

    SELF = "by itself"
    STOPPED_BY_US = "stopped by us"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class RankOutcome:
    """The outcome of one rank.

    Attributes:
        rank: local rank.
        pid: its process.
        status: its exit status; None if it was abandoned alive.
        cause: by itself, stopped by us, or abandoned.
        returned: whether its function returned (always False for programs).
        exit_order: 0 for the first rank of the job that ended, and so on; None if abandoned.
        exited_at: monotonic seconds at which the exit was detected; None if abandoned.
        signals_sent: signals that the supervisor sent to it, in order.
        succeeded: it ended by itself with code 0 and, if it is a function, returned.
        stack: stack at which it hung, as far as it could be read, if it had to be killed or abandoned.
        spawned_because: why it was spawned although another start method was requested; empty if it was not.
        recorded_at: monotonic seconds at which its own error file was found complete, before it was signalled; else
            None.
        recorded: short form of the error in its error file; also for ranks that we stopped.
        signalled_at: monotonic seconds at which the first signal was sent to it; None if none was.
        stopped_by: the actor that stopped it, if it was stopped: derail's launcher ("us"), or an external agent.
        evidence_order: place of the earliest evidence that it failed by itself, among all records and exits of the
            job; None without such evidence.
    """

    rank: int
    pid: int
    status: ExitStatus | None
    cause: Cause
    returned: bool = False
    exit_order: int | None = None
    exited_at: float | None = None
    signals_sent: tuple[int, ...] = ()
    succeeded: bool = False
    stack: str = ""
    spawned_because: str = ""
    recorded_at: float | None = None
    recorded: str = ""
    signalled_at: float | None = None
    evidence_order: int | None = None
    stopped_by: str = "us"

    @property
    def killed_by_us(self) -> bool:
        """Whether it ended by a signal that the supervisor had sent, also if it had failed by itself before."""
        return self.status is not None and self.status.signal is not None and self.status.signal in self.signals_sent

    @property
    def failed(self) -> bool:
        """Whether it failed by itself or had to be abandoned; a rank that we stopped did neither."""
        return not self.succeeded and self.cause is not Cause.STOPPED_BY_US

    def __str__(self) -> str:
        """Return text such as ``rank 2: SIGKILL (9), by itself``."""
        end = "still there" if self.status is None else str(self.status)
        if self.failed and self.status is not None and self.status.ok:
            end += " without a result"
        if self.cause is Cause.SELF and self.killed_by_us:
            return f"rank {self.rank}: {end}, stopped after it had failed by itself"
        cause = f"stopped by {self.stopped_by}" if self.cause is Cause.STOPPED_BY_US else self.cause.value
        return f"rank {self.rank}: {end}, {cause}{self._after_the_stop()}"

    def _after_the_stop(self) -> str:
        """Return, for a rank that we stopped, its recorded error; else the time to its exit if it ended by itself."""
        if self.cause is not Cause.STOPPED_BY_US:
            return ""
        if self.recorded:
            return f"; it recorded: {self.recorded}"
        if self.killed_by_us or self.exited_at is None or self.signalled_at is None:
            return ""
        return f"; it ended {max(0.0, self.exited_at - self.signalled_at) * 1000:.0f} ms after the stop was sent"


def _place(outcome: RankOutcome) -> float:
    """Return the place of a rank among those that failed: by its evidence, else by its exit, else last."""
    place = outcome.exit_order if outcome.evidence_order is None else outcome.evidence_order
    return float("inf") if place is None else place


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that outlived its rank.

    Attributes:
        kind: "process", "descriptor", "thread", "shm", "port", "file" or "handler".
        what: its name, command line or path.
        pid: its pid, if it is a process.
        rank: the rank that it belongs to, if that is known.
        ended: whether it was ended or removed.
    """

    kind: str
    what: str
    pid: int | None = None
    rank: int | None = None
    ended: bool = False

    def __str__(self) -> str:
        """Return one line for people; a long command line is cut."""
        what = self.what if len(self.what) <= LONGEST else f"{self.what[:LONGEST]}..."
        of_rank = "" if self.rank is None else f" of rank {self.rank}"
        pid = "" if self.pid is None else f" {self.pid}"
        return f"{self.kind}{pid}{of_rank}: {what}{' (ended)' if self.ended else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """The outcomes of the ranks of a finished job, and what follows from them.

    Attributes:
        ranks: the outcome of each local rank.
        root_cause: the rank with the earliest evidence that it failed by itself (a record that it did not survive, or
            its exit); else the first that was abandoned; None if none failed.
        started_at: monotonic seconds at which the first rank was started; None if the job never ran.
        ended_at: monotonic seconds at which the last rank had ended or was abandoned; None if the job never ran.
        stop_requested_at: when the stop was decided (first failure, or ``close()``); None if all ranks simply finished.
        stop_reason: why, in words; empty if all ranks simply finished.
        timed_out: whether it was stopped because a deadline of the caller had passed.
        leftovers: processes of the job that outlived their ranks.
        console_missed: bytes of output that a blocked or full console did not accept; the log files have them.
        root_cause_rivals: ranks that may have failed before the root cause: the kernel does not report the order.
    """

    ranks: Mapping[int, RankOutcome] = field(default_factory=dict)
    root_cause: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    stop_requested_at: float | None = None
    stop_reason: str = ""
    timed_out: bool = False
    leftovers: tuple[Leftover, ...] = ()
    console_missed: int = 0
    root_cause_rivals: tuple[int, ...] = ()

    @property
    def ran(self) -> bool:
        """Whether the job was started at all."""
        return self.started_at is not None

    @property
    def succeeded(self) -> bool:
        """Whether every rank succeeded."""
        return bool(self.ranks) and all(rank.succeeded for rank in self.ranks.values())

    @property
    def failed(self) -> tuple[int, ...]:
        """Ranks that failed by themselves or had to be abandoned: root cause first, then in the order of evidence."""
        order = {rank: _place(outcome) for rank, outcome in self.ranks.items() if outcome.failed}
        return tuple(sorted(order, key=lambda rank: (rank != self.root_cause, order[rank], rank)))

    @property
    def stopped(self) -> tuple[int, ...]:
        """Ranks that the launcher stopped because of others, or by request."""
        return tuple(rank for rank, outcome in self.ranks.items() if outcome.cause is Cause.STOPPED_BY_US)

    @property
    def exits(self) -> dict[int, ExitStatus | None]:
        """The exit status of each rank; None for one that was abandoned alive."""
        return {rank: outcome.status for rank, outcome in self.ranks.items()}

    @property
    def seconds(self) -> float | None:
        """Seconds from the start of the first rank to the end of the last; None if the job never ran."""
        return None if self.ended_at is None or self.started_at is None else self.ended_at - self.started_at

    @property
    def teardown_seconds(self) -> float | None:
        """Seconds from the decision to stop to the end of the last rank; None if nothing had to be stopped."""
        if self.ended_at is None or self.stop_requested_at is None:
            return None
        return self.ended_at - self.stop_requested_at


def fields_of(outcome: JobOutcome) -> dict[str, Any]:
    """Return the fields of an outcome by name, for a result that has more of them."""
    return {each.name: getattr(outcome, each.name) for each in fields(JobOutcome)}


@dataclass(frozen=True, slots=True)
class RunProcsResult(JobOutcome):
    """The result of a job of ``start_processes``: torch's attributes, and those of ``JobOutcome``.

    Attributes:
        return_values: by local rank; None for programs. Filled for the ranks that succeeded.
        failures: what is known of the ranks that failed by themselves or had to be abandoned, root cause first.
        stdouts: path of the redirected stdout by local rank; empty where it went to the console.
        stderrs: the same for stderr.
    """

    return_values: dict[int, Any] = field(default_factory=dict)
    failures: dict[int, ProcessFailure] = field(default_factory=dict)
    stdouts: dict[int, str] = field(default_factory=dict)
    stderrs: dict[int, str] = field(default_factory=dict)

    @property
    def outcome(self) -> JobOutcome:
        """The result without torch's attributes, as observers get it in ``Finished``."""
        return JobOutcome(**fields_of(self))

    def is_failed(self) -> bool:
        """Whether any rank did not succeed: it failed, was abandoned, or was stopped before it could finish."""
        return bool(self.failures or self.stopped)

    @property
    def exit_code(self) -> int:
        """Exit code for a launcher: 0, else the root cause's code or 128 + its signal; never 0 after a failure.

        1 if the root cause had recorded an error and was then ended by our own signal.
        """
        if self.succeeded:
            return 0
        if self.root_cause is not None and self.ranks[self.root_cause].killed_by_us:
            return 1
        blamed = self.failed or self.stopped
        status = self.ranks[blamed[0]].status if blamed else None
        return (status.shell_code if status is not None else 0) or 1
