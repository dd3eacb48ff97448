"""Interface between rehearsals and a launcher or agent: start, fail, stop, restart, signal, wait; and its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from derail.conformance.scripted_ranks import ScriptedRanks
    from derail.model.exit import ExitStatus


@dataclass(frozen=True, slots=True)
class LauncherReport:
    """Report of a launcher about a finished job.

    Attributes:
        failed: exit statuses of the ranks that it counts as failed.
        root_cause: the rank that it reports as root cause; None if it reports none.
        stopped: exit statuses of the ranks that it reports as stopped by itself; None if it does not report those.
        rivals: ranks that, as it reports, may have failed before the root cause: it does not know the order.
    """

    failed: Mapping[int, ExitStatus | None] = field(default_factory=dict)
    root_cause: int | None = None
    stopped: Mapping[int, ExitStatus | None] | None = None
    rivals: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Promises:
    """Promises of a launcher beyond the minimum.

    The minimum: it reports a failure, and the exit status of each rank that it names. It leaves no rank alive, ends,
    and reports the same when asked again.

    Attributes:
        order: of several failures that it finds at once, it reports the first one as root cause.
        bystanders: ranks that it has ended itself are not reported as failed.
        helpers: processes that ranks have started in their process groups end with the ranks.
        deaf: ranks that do not end at SIGTERM are killed soon.
        after_stop: after a request to stop, it still reports the earlier failures.
        zero: a rank that exits with code 0 has succeeded, as for programs; a function that never returned has not.
    """

    order: bool = True
    bystanders: bool = True
    helpers: bool = True
    deaf: bool = True
    after_stop: bool = True
    zero: bool = True


LEAST = Promises(order=False, bystanders=False, helpers=False, deaf=False, after_stop=False)
"""Promises that every launcher must keep; torch's keeps no more."""


class Driven(Protocol):
    """Launcher or agent under test. One object runs one job after the other."""

    @property
    def promises(self) -> Promises:
        """Promises that it is checked against."""
        ...

    def start(self, scripted: ScriptedRanks) -> None:
        """Start the program of each rank as one job; return when the processes exist."""
        ...

    def restart(self, scripted: ScriptedRanks) -> None:
        """Start the job again, after the end of the one before."""
        ...

    def fail(self, rank: int, code: int) -> None:
        """Make a rank exit with a code, without a signal from the launcher."""
        ...

    def signal(self, rank: int, number: int) -> None:
        """Send a signal to a rank, as an unrelated process would."""
        ...

    def hold(self) -> bool:
        """Make the launcher ignore all events until ``release``; return False if that is not possible."""
        ...

    def release(self) -> None:
        """Let the launcher continue, if it was held."""
        ...

    def stop(self) -> None:
        """Request the end of the job, which releases the launcher, and wait for the end."""
        ...

    def wait(self, timeout: float) -> LauncherReport | None:
        """Return the report on the job, or None if the job is not over within ``timeout`` seconds.

        A second call returns the same report.
        """
        ...

    def close(self) -> None:
        """Release all resources, after the ranks have ended."""
        ...
