"""Interface between driver and injectors: an injector gets a target rank, injects, and returns how to verify that.

An injector returns at once: either a result, or a check that will give one. ``AtExit`` checks the exit status of the
rank; ``Soon`` inspects the target from outside.
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
"""Value of ``Soon.within`` without a deadline: until the rank or the job ends."""


@dataclass(frozen=True, slots=True)
class AtExit:
    """Check of the rank's exit status.

    Attributes:
        check: returns the result for an exit; called in the job's thread, before the supervisor acts on the exit.
        awaited: the name of the evidence, for the message if the rank never ends.
    """

    check: Callable[[ExitStatus], Result]
    awaited: str


@dataclass(frozen=True, slots=True)
class Soon:
    """Repeated check of the target.

    Attributes:
        check: checks once, without waiting; None while there is no evidence.
        awaited: the name of the evidence, for the message if there is none in time.
        within: the deadline in seconds.
        at_exit: returns the result if the rank ends without evidence; None if the fault then counts as errored.
        at_end: returns the result if the job ends without evidence while the rank lives; None if it then counts as
            errored.
    """

    check: Callable[[], Result | None]
    awaited: str
    within: float = 5.0
    at_exit: Callable[[ExitStatus], Result] | None = None
    at_end: Callable[[], Result] | None = None


Step: TypeAlias = Injected | NotReached | Unavailable | Errored | AtExit | Soon


@dataclass(slots=True)
class Aim:
    """One fault on one target rank of a running job.

    Attributes:
        fault: the fault.
        rank: the target rank.
        seed: the seed of the plan; for ``plan.decide``.
        control: the job.
        records: the rank's own journal records about this fault, oldest first.
        sent_by_supervisor: signals that the supervisor has sent to this rank so far, oldest first.
        values: monotonic times in seconds at which the supervisor received a return value of this rank's function.
        undo: undo steps with their names, newest last. An injector adds to it *before* it injects.
        sockets: the directory for sockets of the job, to which the shims of ranks connect.
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
        """Return a parameter that is a string (empty if it is not given)."""
        value = self.fault.param(name)
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        """Return a boolean parameter."""
        return bool(self.fault.param(name))

    def number(self, name: str) -> float:
        """Return a parameter that is a number (0 if it is not given)."""
        value = self.fault.param(name)
        return float(value) if isinstance(value, int | float) else 0.0

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a parameter that is a list of strings."""
        value = self.fault.param(name)
        return value if isinstance(value, tuple) else ()

    @property
    def where(self) -> str:
        """Position of the rank in its program at the injection, as reported by the rank."""
        return next((str(record.get("where", "")) for record in self.records if record["event"] == "start"), "")


def control_signal() -> int:
    """Return the signal that makes a rank read the journal: one that other programs do not use."""
    last = getattr(signal, "SIGRTMAX", None)
    return int(getattr(signal, "SIGEMT", signal.SIGUSR2)) if last is None else int(last) - 6
