"""What the driver and an injector say to each other: an injector is aimed at a rank, acts, and says how that is proved.

An injector returns at once. Either it knows already what came of it (a result), or it says what will show it:
``AtExit`` (the status of the rank's exit), or ``Soon`` (something that can be looked at from outside).
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from derail.faults.model.results import Errored, Injected, NotReached, Result, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from derail.faults.model.plan import Fault
    from derail.model.events import JobControl
    from derail.model.exit import ExitStatus
    from derail.platform.handshake import PrivateDirectory


FOREVER = float("inf")
"""For ``Soon.within``: until the rank or the job ends."""


@dataclass(frozen=True, slots=True)
class AtExit:
    """The exit of the rank will show it.

    Attributes:
        check: what the exit says; called in the job's thread, before the supervisor acts on the exit.
        awaited: what is waited for, for the case that the rank never ends.
    """

    check: Callable[[ExitStatus], Result]
    awaited: str


@dataclass(frozen=True, slots=True)
class Soon:
    """A look at the target will show it.

    Attributes:
        check: looks once, without waiting; None if it does not show yet.
        awaited: what is waited for, for the case that it never shows.
        within: seconds until it must show.
        at_exit: what it means if the rank ends before it shows; None if that disproves it.
        at_end: what it means if the job is given up before that, and the rank lives; None if that disproves it.
    """

    check: Callable[[], Result | None]
    awaited: str
    within: float = 5.0
    at_exit: Callable[[ExitStatus], Result] | None = None
    at_end: Callable[[], Result] | None = None


Step: TypeAlias = Injected | NotReached | Unavailable | Errored | AtExit | Soon


@dataclass(slots=True)
class Aim:
    """One fault, aimed at one rank of a running job.

    Attributes:
        fault: what to do.
        rank: whom to do it to.
        seed: of the plan; for ``plan.decide``.
        control: the job.
        records: what the rank itself wrote to the journal about this fault, oldest first.
        sent_by_supervisor: signals that the supervisor had sent to this rank so far, oldest first.
        values: when the supervisor heard that the function of this rank had returned a value; empty before.
        undo: what puts things back, newest last. An injector adds to it *before* it acts.
        sockets: where sockets of the job lie, at which the shims of ranks connect.
    """

    fault: Fault
    rank: int
    seed: int
    control: JobControl
    records: list[Mapping[str, object]] = field(default_factory=list)
    sent_by_supervisor: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    undo: list[tuple[str, Callable[[], None]]] = field(default_factory=list)
    sockets: PrivateDirectory | None = None

    def text(self, name: str) -> str:
        """A parameter that is a string (empty if it is not given)."""
        value = self.fault.param(name)
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        """A parameter that is true or false."""
        return bool(self.fault.param(name))

    def number(self, name: str) -> float:
        """A parameter that is a number (0 if it is not given)."""
        value = self.fault.param(name)
        return float(value) if isinstance(value, int | float) else 0.0

    def texts(self, name: str) -> tuple[str, ...]:
        """A parameter that is a list of strings."""
        value = self.fault.param(name)
        return value if isinstance(value, tuple) else ()

    @property
    def where(self) -> str:
        """Where in its program the rank was when it acted, as it says itself."""
        return next((str(record.get("where", "")) for record in self.records if record["event"] == "start"), "")


def control_signal() -> int:
    """The signal by which the driver tells a rank that something is due: one that nobody else uses."""
    last = getattr(signal, "SIGRTMAX", None)
    return int(getattr(signal, "SIGEMT", signal.SIGUSR2)) if last is None else int(last) - 6
