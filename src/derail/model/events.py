"""The events of a job, as values, and the protocol of their observers.

Every event carries ``at``: seconds of the monotonic clock. Observers are called in the job's own thread, in the order
of the events, *before* the supervisor acts on one: an observer of ``Exited`` may still change the rank's files.
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
End: TypeAlias = Literal["signal", "abort", "code"]
"""Kind of an exit: by a signal other than SIGABRT, by that one, or with an exit code."""

Known: TypeAlias = Literal["known", "within its kind", "unknown", "as announced"]
"""Degree to which the order of a record or an exit is known.

- "known": it is later than everything that was reported before.
- "within its kind": that holds only against others of its kind (records against records, exits against exits).
- "unknown": its order is not known.
- "as announced": an announced record, read only after others were reported, takes the place of its announcement.

The second and third concern everything reported since the last item of known order, including that item.
"""

Phase: TypeAlias = Literal["starting", "running", "stopping", "killing", "done"]


@dataclass(frozen=True, slots=True)
class Started:
    """The start of rank ``rank`` as process ``pid``, leader of its own session and process group."""

    rank: int
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class LineSeen:
    """A whole line of rank ``rank`` on a redirected stream, without its line end, bad bytes replaced."""

    rank: int
    stream: Stream
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class ValueReceived:
    """The return of the function of rank ``rank``; its value is kept, its process may still run."""

    rank: int
    at: float


@dataclass(frozen=True, slots=True)
class ErrorRecorded:
    """A complete error file of ``rank``, written by the rank itself. The rank may still survive that error.

    Attributes:
        rank: local rank.
        message: short form of the recorded error.
        at: when the launcher read it.
        order: whether its place among the records and exits of the job is known.
        may_be_older: whether it may be older than records reported before it, because nothing announced it.
    """

    rank: int
    message: str
    at: float
    order: Known = "known"
    may_be_older: bool = False


@dataclass(frozen=True, slots=True)
class Exited:
    """The exit of the process of ``rank``: detected, but not reaped, so its pid cannot be reused yet.

    Attributes:
        rank: local rank.
        pid: its process.
        status: its exit status.
        at: when the launcher detected it.
        order: whether its place among the records and exits of the job is known.
    """

    rank: int
    pid: int
    status: ExitStatus
    at: float
    order: Known = "known"


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A request to stop the job: ``close()``, a signal to the launcher, or a timeout.

    Attributes:
        reason: a few words for people.
        signal: the first signal to send.
        grace: seconds between that signal and SIGKILL; 0 sends SIGKILL at once.
    """

    reason: str
    signal: int
    grace: float
    at: float


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The expiry of a deadline that the policy had set."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class SignalSent:
    """A signal that the supervisor sent to the process group of ``rank``."""

    rank: int
    signal: int
    at: float


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The change of the job to ``phase``; ``rank`` is set while that rank is being started."""

    phase: Phase
    at: float
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Restarted:
    """The restart of all ranks after a failure, the ``number``-th of at most ``restarts``."""

    number: int
    restarts: int
    at: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the job, with its outcome."""

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
    | Restarted
    | Finished
)


class JobControl(Protocol):
    """Operations of an observer on the job that it observes.

    Safe to call only from the job's own thread (in ``observe``, ``attach`` or a ``call_later`` action), except for
    ``post``.
    """

    @property
    def ranks(self) -> tuple[int, ...]:
        """The local ranks of the job."""
        ...

    def pid(self, rank: int) -> int | None:
        """Return the process of ``rank``, or None before its start. Valid until the job is done: no earlier reaping."""
        ...

    def pidfd(self, rank: int) -> int | None:
        """Return a pidfd of ``rank``, owned by the job, or None where the platform has none."""
        ...

    def is_alive(self, rank: int) -> bool:
        """Return whether the process of ``rank`` was started and has not ended, according to the kernel now."""
        ...

    def send_signal(self, rank: int, signal: int, *, group: bool = False) -> bool:
        """Send a signal to a rank, or to its process group; return False if it had ended.

        Such a signal does not count as the launcher's: a rank that dies of it failed by itself.
        """
        ...

    def error_file(self, rank: int) -> Path | None:
        """Return the path of the error file of ``rank``, or None if it has none."""
        ...

    def log_file(self, rank: int, stream: Stream) -> Path | None:
        """Return the file to which a stream of ``rank`` is redirected, or None if it goes to the console."""
        ...

    def call_later(self, delay: float, action: Callable[[], None]) -> Callable[[], None]:
        """Run ``action`` in the job's thread after ``delay`` seconds; return a function that cancels it."""
        ...

    def post(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the job's thread soon. May be called from any thread; does nothing once the job is done."""
        ...


class Observer(Protocol):
    """Receiver of all events of a job.

    An observer must not block: it runs in the thread that supervises the ranks. An exception in it is logged, that
    observer is not called again, and the job continues.
    """

    wants_lines: bool
    """Whether to call it with ``LineSeen``; reading the logs has a cost."""

    def attach(self, control: JobControl) -> None:
        """Prepare to observe; called once, in the job's thread, before the first rank is started."""
        ...

    def observe(self, event: Event) -> None:
        """Handle one event; called in order, before the supervisor acts on the event."""
        ...
