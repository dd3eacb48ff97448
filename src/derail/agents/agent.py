"""Who supervises the ranks of a scenario: the one face of derail itself and of every foreign launcher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from derail.scenario.model import JobResult, Promise, Scenario


__all__ = ["Agent"]


class Agent(Protocol):
    """Runs scenarios, and says what it left."""

    @property
    def name(self) -> str:
        """What it is called on the command line and in reports."""
        ...

    @property
    def promises(self) -> frozenset[Promise]:
        """What its supervisor promises; the rest is not held against it."""
        ...

    def version(self) -> str:
        """The version of the supervisor that is installed here; empty if that cannot be known."""
        ...

    def unavailable(self) -> str:
        """Why it cannot be run here at all; empty if it can."""
        ...

    def unsupported(self, scenario: Scenario) -> str:
        """Why this scenario cannot be run on it, although it can be run here; empty if it can."""
        ...

    def run(self, scenario: Scenario, workdir: Path) -> JobResult:
        """Run the job of a scenario to its end, its faults armed, with all evidence under ``workdir``.

        A supervisor that breaks gives a result too. When this returns or raises, nothing of the job is left.

        Raises:
            InputError: if a fault cannot be aimed at these ranks.
            SignalException: if this process was asked to end meanwhile.
        """
        ...
