"""Supervisor of the ranks of a scenario: the common interface of derail's launcher and all external agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from derail.scenario.model import JobResult, Promise, Scenario


__all__ = ["Agent"]


class Agent(Protocol):
    """Supervisor that runs scenarios, and reports what it left."""

    @property
    def name(self) -> str:
        """Name on the command line and in reports."""
        ...

    @property
    def promises(self) -> frozenset[Promise]:
        """Promises of its supervisor; expectations beyond them are not judged."""
        ...

    def version(self) -> str:
        """Return the installed version of the supervisor; empty if it is unknown."""
        ...

    def unavailable(self) -> str:
        """Return why it cannot run here at all; empty if it can."""
        ...

    def unsupported(self, scenario: Scenario) -> str:
        """Return why it cannot run this scenario, although it can run here; empty if it can."""
        ...

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """Run the job of a scenario to its end, with its faults, and with all evidence under ``workdir``.

        A supervisor that breaks gives a result as well. When this returns or raises, nothing of the job is left.

        Raises:
            InputError: if a fault cannot target these ranks.
            SignalException: if a signal asks this process to end during the run.
        """
        ...
