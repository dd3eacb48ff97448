"""What happens in a job, as values; and who may listen.

Every event carries ``at``: seconds of the monotonic clock. Observers are called in the job's own thread, in the order
of the events, *before* the supervisor acts on one: an observer that hears ``Exited`` may still change its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from derail.model.exit import ExitStatus
    from derail.model.outcome import JobOutcome

Stream: TypeAlias = Literal["stdout", "stderr"]
Known: TypeAlias = Literal["known", "within its kind", "unknown", "as announced"]
"""Whether the order of a record or an exit is known: it is behind all that was reported before; it is so against others
of its kind only (records against records, exits against exits); or it has no known order. The latter two concern what
was reported since the last one of known order, including that one. A record that was announced, and is read only after
others were reported, has the place of its announcement."""

Phase: TypeAlias = Literal["starting", "running", "stopping", "killing", "done"]


@dataclass(frozen=True, slots=True)
class Started:
    """Rank ``rank`` runs as process ``pid``, leader of its own session and process group."""

    rank: int
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class LineSeen:
    """Rank ``rank`` wrote one whole line (without its line end; bad bytes replaced) to a redirected stream."""

    rank: int
    stream: Stream
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class ValueReceived:
    """The function of rank ``rank`` returned; its value is kept, its process may still run."""

    rank: int
    at: float


@dataclass(frozen=True, slots=True)
class ErrorRecorded:
    """The error file of ``rank`` is complete, and the rank itself has written it. It may still survive that error.

    Attributes:
        rank: local rank.
        message: what it recorded, in short.
        at: when the launcher saw it.
        order: whether its place among the records and exits of the job is known.
        may_be_older: whether it may be older than records that were reported before it, since nothing announced it.
    """

    rank: int
    message: str
    at: float
    order: Known = "known"
    may_be_older: bool = False


@dataclass(frozen=True, slots=True)
class Exited:
    """The process of ``rank`` has ended. It was seen, not reaped: its pid cannot be another process's yet.

    Attributes:
        rank: local rank.
        pid: its process.
        status: how it ended.
        at: when the launcher saw it.
        order: whether its place among the records and exits of the job is known.
    """

    rank: int
    pid: int
    status: ExitStatus
    at: float
    order: Known = "known"


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody asked for the end of the job: ``close()``, a signal to the launcher, a timeout.

    Attributes:
        reason: in a few words, for people.
        signal: what to send first.
        grace: seconds between that signal and SIGKILL; 0 goes to SIGKILL at once.
    """

    reason: str
    signal: int
    grace: float
    at: float


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """A deadline that the policy had set has come."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class SignalSent:
    """The supervisor sent ``signal`` to the process group of ``rank``."""

    rank: int
    signal: int
    at: float


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The job went on to ``phase``; ``rank`` is set while that one is being started."""

    phase: Phase
    at: float
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The job is over, and this is what came of it."""

    outcome: JobOutcome
    at: float


Event: TypeAlias = (
    Started
    | LineSeen
    | ValueReceived
    | ErrorRecorded
    | Exited
    | StopRequested
    | DeadlinePassed
    | SignalSent
    | PhaseChanged
    | Finished
)


class JobControl(Protocol):
    """What an observer may do to the job that it observes. Safe to call only from the job's own thread (in ``observe``,
    ``attach`` or a ``call_later`` action), except for ``post``."""

    @property
    def ranks(self) -> tuple[int, ...]:
        """The local ranks of the job."""
        ...

    def pid(self, rank: int) -> int | None:
        """Process of ``rank``; None before its start. Stays valid until the job is done: nobody is reaped before."""
        ...

    def pidfd(self, rank: int) -> int | None:
        """Descriptor of the process of ``rank``, owned by the job; None where the platform has none."""
        ...

    def is_alive(self, rank: int) -> bool:
        """Whether the process of ``rank`` was started and has not ended, asked of the kernel now."""
        ...

    def send_signal(self, rank: int, signal: int, *, group: bool = False) -> bool:
        """Send a signal to a rank, or to its process group. False if it had ended. Not counted as ours: a rank that
        dies of it failed by itself."""
        ...

    def error_file(self, rank: int) -> Path | None:
        """Where ``rank`` writes its error file; None if it has none."""
        ...

    def log_file(self, rank: int, stream: Stream) -> Path | None:
        """Where a stream of ``rank`` is redirected to; None if it goes to the console."""
        ...

    def call_later(self, delay: float, action: Callable[[], None]) -> Callable[[], None]:
        """Run ``action`` in the job's thread after ``delay`` seconds; returns what cancels it."""
        ...

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the job's thread soon. May be called from any thread; does nothing once the job is done."""
        ...


class Observer(Protocol):
    """Hears all that happens in a job.

    An observer must not block: it runs in the thread that supervises the ranks. An exception in it is logged, that
    observer is not called again, and the job goes on.
    """

    wants_lines: bool
    """Whether ``LineSeen`` is wanted; reading the logs costs something."""

    def attach(self, control: JobControl) -> None:
        """Called once, in the job's thread, before the first rank is started."""
        ...

    def observe(self, event: Event) -> None:
        """Called for each event, in order, before the supervisor acts on it."""
        ...
