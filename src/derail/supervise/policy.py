"""When a job is stopped, and how hard: events in, actions out. No clock, no process: the events carry the times.

running -> stopping -> killing -> done. The first rank that fails by itself (unless ``stop_others`` is off), or a
request, leads to *stopping*: the live ranks get a signal, and have ``grace`` seconds. Then *killing*: SIGKILL, and
``kill_wait`` seconds. A rank that still exists then is abandoned and named. From *stopping* on there is always a
deadline pending, so no wait is unbounded.

A rank failed by itself if there is evidence of that. It had recorded an error before our signal, and did not survive
it; or it had ended or was ending before our signal; or it ended by a signal that we had not sent. The root cause is
the rank with the earliest evidence. A record alone stops nothing, since a rank can survive it.

The reasons are in docs/adr/no-trust-in-timestamps.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from derail.model.events import DeadlinePassed, ErrorRecorded, Exited, SignalSent, Started, StopRequested, ValueReceived
from derail.model.exit import SIGABRT, SIGKILL

if TYPE_CHECKING:
    from collections.abc import Collection

    from derail.model.events import End, Event, Known, Phase
    from derail.model.exit import ExitStatus
    from derail.model.outcome import Cause, RankOutcome
    from derail.model.spec import Teardown

LOOK_BEFORE_KILL = 0.25
"""Seconds before SIGKILL at which remaining ranks are examined; at most a quarter of the grace period."""

LEAVE = 0.5
"""Seconds for ranks that recorded an error to exit by themselves after another one has failed, before they are asked
to end; at most a quarter of the grace period. Most are about to exit, with a code more specific than our signal."""

DeadlineName: TypeAlias = Literal["ask", "look", "kill", "abandon"]


class Signal(NamedTuple):
    """The order to send ``signal`` to the process group of each of ``ranks`` that has not ended by then.

    Attributes:
        ranks: live ranks that are to get it.
        signal: its number.
        spared: live ranks that are not to get it yet.
    """

    ranks: tuple[int, ...]
    signal: int
    spared: tuple[int, ...] = ()


class SetDeadline(NamedTuple):
    """The order to report ``DeadlinePassed(name)`` at ``at``; a deadline of the same name is replaced."""

    name: DeadlineName
    at: float


class Look(NamedTuple):
    """The order to report where these ranks hang, before they are killed."""

    ranks: tuple[int, ...]


class Release(NamedTuple):
    """The order to let the processes of functions end, after all functions have returned."""


class Enter(NamedTuple):
    """The change of the job to this phase."""

    phase: Phase


Action: TypeAlias = Signal | SetDeadline | Look | Release | Enter


class Moment(NamedTuple):
    """The place of a record or an exit among all of a job.

    Attributes:
        place: 0 for the first that was reported, and so on.
        group: moments of different groups have a known order.
        kind: within a group, moments of one kind have a known order, unless one of them has none.
        loose: whether it has none within its group.
        may_be_older: whether it is a record that may be older than records before it.
    """

    place: int
    group: int
    kind: str
    loose: bool
    may_be_older: bool = False

    def is_rival_of(self, other: Moment) -> bool:
        """Return whether the order of the two is unknown."""
        first, second = sorted((self, other), key=lambda each: each.place)
        if second.may_be_older and first.kind == second.kind:
            return True
        return self.group == other.group and (self.kind != other.kind or self.loose or other.loose)


@dataclass(slots=True)
class _Rank:
    """The state of one rank so far."""

    function: bool
    pid: int = 0
    returned: bool = False
    status: ExitStatus | None = None
    exit_order: int | None = None
    exited_at: float | None = None
    exiting: dict[End, Moment] = field(default_factory=dict)
    exit: Moment | None = None
    recorded: Moment | None = None
    recorded_at: float | None = None
    message: str = ""
    announced: tuple[Moment, float] | None = None
    abandoned: bool = False
    signals: list[int] = field(default_factory=list)
    signalled_at: float | None = None

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself with code 0, and returned if it is a function."""
        return self.status is not None and self.status.ok and not self.signals and (self.returned or not self.function)

    @property
    def survived(self) -> bool:
        """Whether it exited with code 0: a recorded error was no failure."""
        return self.status is not None and self.status.ok

    @property
    def evidence(self) -> Moment | None:
        """The earliest evidence that it failed by itself; None if there is none."""
        if self.recorded is not None and not self.survived:
            return self.recorded
        if not self.ended_by_itself or self.succeeded or self.status is None:
            return None
        signal = self.status.signal
        return self.exiting.get("code" if signal is None else "abort" if signal == SIGABRT else "signal", self.exit)

    @property
    def ended_by_itself(self) -> bool:
        """Whether no action of the launcher ended it."""
        if self.abandoned or self.status is None:
            return False
        foreign = self.status.signal is not None and self.status.signal not in self.signals
        return (self.recorded is not None and not self.survived) or foreign or not self.signals

    @property
    def cause(self) -> Cause:
        """Reason why it no longer runs."""
        from derail.model.outcome import Cause  # used only when the job is over

        if self.abandoned or self.status is None:
            return Cause.ABANDONED
        return Cause.SELF if self.ended_by_itself else Cause.STOPPED_BY_US


class Policy:
    """The decisions about a job. Pass it the events in order with ``handle``; perform the actions in order."""

    def __init__(self, functions: Collection[int], *, ranks: Collection[int], teardown: Teardown) -> None:
        self._ranks = {rank: _Rank(function=rank in functions) for rank in ranks}
        self._living: dict[int, None] = {}  # in the order of their start
        self._functions = bool(functions)
        self._expected = set(functions)  # have not returned
        self._teardown = teardown
        self._exits = self._moments = self._group = 0
        self._kill_at = 0.0
        self._released = False
        self.phase: Phase = "starting"
        self.stop_reason = ""
        self.stop_requested_at: float | None = None

    @property
    def living(self) -> tuple[int, ...]:
        """Ranks that have been started and have neither ended nor been abandoned."""
        return tuple(self._living)

    def all_started(self, at: float) -> list[Action]:
        """Note that every rank has been started: from now on the end of the last one is the end of the job."""
        if self.phase != "starting":
            return []
        self.phase = "running"
        actions: list[Action] = [Enter("running")]
        failed = next((rank for rank, s in self._ranks.items() if s.status is not None and not s.succeeded), None)
        if failed is not None:
            actions += self._failed(failed, at)
        return actions + self._release_if_all_returned() + self._done_if_over()

    def handle(self, event: Event) -> list[Action]:
        """Process ``event`` and return the actions to perform; none once the job is done."""
        if self.phase == "done":
            return []
        match event:
            case Started(rank=rank, pid=pid):
                self._ranks[rank].pid = pid
                self._living[rank] = None
                return []
            case ValueReceived(rank=rank):
                self._ranks[rank].returned = True
                self._expected.discard(rank)
                state = self._ranks[rank]
                state.recorded = state.recorded_at = state.announced = None  # it has survived that error
                return self._release_if_all_returned()
            case SignalSent(rank=rank, signal=number, at=at):
                state = self._ranks[rank]
                state.signals.append(number)
                state.signalled_at = at if state.signalled_at is None else state.signalled_at
                return []
            case ErrorRecorded():
                self._recorded(event)
                return []
            case Exited():
                return self._exited(event)
            case StopRequested():
                return self._requested(event)
            case DeadlinePassed(name=name, at=at):
                return self._deadline(name, at)
            case _:
                return []

    def outcomes(self, stacks: dict[int, str]) -> dict[int, RankOutcome]:
        """Return the outcome of each rank that was started; ``stacks`` has the reports of those that hung."""
        from derail.model.outcome import RankOutcome

        evidence = {rank: state.evidence for rank, state in self._ranks.items()}
        return {
            rank: RankOutcome(
                rank=rank,
                pid=state.pid,
                status=state.status,
                cause=state.cause,
                returned=state.returned,
                exit_order=state.exit_order,
                exited_at=state.exited_at,
                signals_sent=tuple(state.signals),
                succeeded=state.succeeded,
                stack=stacks.get(rank, ""),
                recorded_at=state.recorded_at,
                signalled_at=state.signalled_at,
                evidence_order=None if (moment := evidence[rank]) is None else moment.place,
                recorded=state.message,
            )
            for rank, state in self._ranks.items()
            if state.pid
        }

    def rivals(self, rank: int) -> tuple[int, ...]:
        """Return the other ranks with evidence that may be earlier than that of ``rank``: the order is unknown."""
        evidence = self._ranks[rank].evidence
        return tuple(
            other
            for other, state in self._ranks.items()
            if other != rank and evidence and state.evidence and state.evidence.is_rival_of(evidence)
        )

    def announce(self, rank: int, at: float, order: Known) -> None:
        """Store the place of a record that is read later, and then reported with the order "as announced"."""
        self._ranks[rank].announced = self._moment(ErrorRecorded, order), at

    def exiting(self, rank: int, order: Known, ends: tuple[End, ...]) -> None:
        """Store the place of an exit that is reported later, if it is of one of these kinds."""
        self._ranks[rank].exiting.update(dict.fromkeys(ends, self._moment(Exited, order)))

    def _moment(self, kind: type[Exited | ErrorRecorded], order: Known, *, may_be_older: bool = False) -> Moment:
        self._group += order in ("known", "as announced")
        self._moments += 1
        return Moment(self._moments - 1, self._group, kind.__name__, order == "unknown", may_be_older)

    def _recorded(self, event: ErrorRecorded) -> None:
        """Replace an earlier record, which the rank has survived, by a later one.

        A record from before our signal may be reported after it: it waited behind an exit with an unknown status.
        """
        state = self._ranks[event.rank]
        announced = state.announced if event.order == "as announced" else None
        moment, at = announced or (
            self._moment(ErrorRecorded, event.order, may_be_older=event.may_be_older),
            event.at,
        )
        if event.rank in self._living and (state.signalled_at is None or at < state.signalled_at):
            state.recorded, state.recorded_at, state.message = moment, at, event.message

    def _exited(self, event: Exited) -> list[Action]:
        moment, state = self._moment(Exited, event.order), self._ranks[event.rank]
        if state.status is not None or state.abandoned:
            return []
        state.status, state.exited_at, state.exit_order, state.exit = event.status, event.at, self._exits, moment
        self._living.pop(event.rank, None)
        self._exits += 1
        actions: list[Action] = []
        if self.phase == "running" and not state.succeeded:
            actions += self._failed(event.rank, event.at)
        return actions + self._done_if_over()

    def _failed(self, rank: int, at: float) -> list[Action]:
        """Stop the job because a rank failed; ranks that recorded an error are asked to end a moment later."""
        if not self._teardown.stop_others:
            self._expected -= {each for each, state in self._ranks.items() if state.status is not None}
            return self._release_if_all_returned()
        teardown, spared = self._teardown, self._about_to_leave()
        actions = self._stop(f"rank {rank} failed", teardown.signal, grace=teardown.grace, at=at, spared=spared)
        if spared and self.phase == "stopping":
            actions.append(SetDeadline("ask", at + min(LEAVE, teardown.grace / 4)))
        return actions

    def _about_to_leave(self) -> tuple[int, ...]:
        return tuple(rank for rank in self._living if self._ranks[rank].recorded and not self._ranks[rank].signals)

    def _requested(self, event: StopRequested) -> list[Action]:
        if self.phase in ("starting", "running"):
            actions = self._stop(event.reason, event.signal, grace=event.grace, at=event.at)
            return actions + self._done_if_over()
        if self.phase == "stopping":
            # A further request can only bring the end forward.
            if event.grace <= 0 or event.signal == SIGKILL:
                return self._kill(event.at)
            if event.at + event.grace < self._kill_at:
                return [Signal(self.living, event.signal), *self._deadlines(event.at, event.grace)]
        return []

    def _deadline(self, name: str, at: float) -> list[Action]:
        if name == "ask" and self.phase == "stopping":
            late = self._about_to_leave()
            others = self._living.keys() - set(late)
            return [Signal(late, self._teardown.signal, spared=tuple(sorted(others)))] if late else []
        if name == "look" and self.phase == "stopping":
            return [Look(self.living)]
        if name == "kill" and self.phase == "stopping":
            return self._kill(at)
        if name == "abandon" and self.phase == "killing":
            for rank in self._living:
                self._ranks[rank].abandoned = True
            self._living.clear()
            return self._done_if_over()
        return []

    def _stop(self, reason: str, signal: int, *, grace: float, at: float, spared: tuple[int, ...] = ()) -> list[Action]:
        self.phase = "stopping"
        self.stop_reason, self.stop_requested_at = reason, at
        actions: list[Action] = [Enter("stopping")]
        if not self._living:
            return actions
        if grace <= 0 or signal == SIGKILL:
            return actions + self._kill(at)
        asked = tuple(rank for rank in self._living if rank not in set(spared))
        return [*actions, Signal(asked, signal, spared), *self._deadlines(at, grace)]

    def _deadlines(self, at: float, grace: float) -> list[Action]:
        self._kill_at = at + grace
        look = self._kill_at - min(LOOK_BEFORE_KILL, grace / 4)
        return [SetDeadline("look", look), SetDeadline("kill", self._kill_at)]

    def _kill(self, at: float) -> list[Action]:
        self.phase = "killing"
        abandon = SetDeadline("abandon", at + self._teardown.kill_wait)
        return [Enter("killing"), Signal(self.living, SIGKILL), abandon]

    def _release_if_all_returned(self) -> list[Action]:
        if self._released or self.phase != "running" or not self._functions or self._expected:
            return []
        self._released = True
        return [Release()]

    def _done_if_over(self) -> list[Action]:
        """End the job if it is past its start and no rank lives."""
        if self.phase == "starting" or self._living:
            return []
        self.phase = "done"
        return [Enter("done")]
