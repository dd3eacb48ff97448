"""Which failures a test has looked at: what it asserted, and what it said to expect.

Assertions note here what they were asked about; the ``derail`` fixture reads it when the test's own code is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derail.scenario.model import Observation


@dataclass(slots=True)
class Account:
    """What a test has said about one job.

    Attributes:
        failures_seen: ranks that an assertion asked about, or whose failure the test expects.
        any_failure: whether it expects the failure of any rank.
        timeout_seen: whether it knows that the job timed out.
        faults_seen: faults, with their rank, that it knows not to have happened.
        leftovers_seen: whether it knows what the job left.
        exit_code_seen: whether it asked for another exit code of the agent than 0.
    """

    failures_seen: set[int] = field(default_factory=set)
    any_failure: bool = False
    timeout_seen: bool = False
    faults_seen: set[tuple[str, int | None]] = field(default_factory=set)
    leftovers_seen: bool = False
    exit_code_seen: bool = False

    def looked_at(self, *ranks: int) -> None:
        """The test knows of the failure of these ranks."""
        self.failures_seen.update(ranks)


_open: dict[int, tuple[object, Account]] = {}
"""By the identity of what was observed, which is kept so that no other object gets the same one."""


def open_account(observation: Observation, account: Account) -> None:
    """From now on assertions about this object are noted."""
    _open[id(observation)] = (observation, account)


def close_account(observation: Observation) -> None:
    """Forget the object. Idempotent."""
    _open.pop(id(observation), None)


def account_of(observation: object) -> Account:
    """The account of an object; one that nobody reads if it came from elsewhere."""
    found = _open.get(id(observation))
    return Account() if found is None else found[1]
