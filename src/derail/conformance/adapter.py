"""A launcher or agent as it is driven by a rehearsal: start, fail, stop, restart, signal, wait; and what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from derail.conformance.scripted_ranks import Crew
    from derail.model.exit import ExitStatus


@dataclass(frozen=True, slots=True)
class Told:
    """What a launcher says of a job that is over.

    Attributes:
        failed: how the ranks ended that it counts as failed.
        root_cause: the one that it blames; None if it blames none.
        stopped: how the ranks ended that it says it has stopped; None if it says nothing of those.
    """

    failed: Mapping[int, ExitStatus | None] = field(default_factory=dict)
    root_cause: int | None = None
    stopped: Mapping[int, ExitStatus | None] | None = None


@dataclass(frozen=True, slots=True)
class Promises:
    """What is expected of a launcher beyond the least: that it tells a failure, tells how each rank that it names has
    ended, leaves none alive, comes to an end, and says the same again.

    Attributes:
        order: among failures that it sees at one look, it blames the first.
        bystanders: ranks that it has ended itself are not among those that failed.
        helpers: what ranks have started in their groups ends with them.
        deaf: ranks that do not end at SIGTERM are killed soon.
        after_stop: asked to stop, it still tells the failures that there were before.
        zero: a rank that exits with code 0 has succeeded, as a program has; a function has not if it never returned.
    """

    order: bool = True
    bystanders: bool = True
    helpers: bool = True
    deaf: bool = True
    after_stop: bool = True
    zero: bool = True


LEAST = Promises(order=False, bystanders=False, helpers=False, deaf=False, after_stop=False)
"""What every launcher must keep; torch's keeps no more."""


class Driven(Protocol):
    """A launcher or agent under test. One object runs one job after the other."""

    @property
    def promises(self) -> Promises:
        """What it may be held to."""
        ...

    def start(self, crew: Crew) -> None:
        """Start the program of each rank of the crew, as one job; return when their processes are there."""
        ...

    def restart(self, crew: Crew) -> None:
        """The same once more, after the end of the job before."""
        ...

    def fail(self, rank: int, code: int) -> None:
        """Have a rank exit with a code, by itself."""
        ...

    def signal(self, rank: int, number: int) -> None:
        """Send a signal to a rank, as a stranger would."""
        ...

    def hold(self) -> bool:
        """Have the launcher take no notice of anything until ``release``; False if that cannot be had."""
        ...

    def release(self) -> None:
        """Let it go on, if it was held."""
        ...

    def stop(self) -> None:
        """Ask for the end of the job, which is not held any longer then, and wait for it."""
        ...

    def wait(self, timeout: float) -> Told | None:
        """What it says of the job, if that is over within so many seconds; the same when it is asked again."""
        ...

    def close(self) -> None:
        """Give back what it holds. The ranks have been ended."""
        ...
