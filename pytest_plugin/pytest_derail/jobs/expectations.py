"""Which failures a test has looked at, and what fails it where it has not.

Assertions note here what they were asked about; the ``derail`` fixture reads it when the test's own code is done. What
happened and was not expected is told with what to write if it was meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from derail.faults.model.targets import AGENT
from derail.model.outcome import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from derail.model.outcome import JobOutcome
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


def judge(seen: Observation, account: Account) -> list[str]:
    """What went wrong in a job and was not looked at."""
    return [*_failures(seen, account), *_timeout(seen, account), *_faults(seen, account)]


def _failures(seen: Observation, account: Account) -> Iterator[str]:
    if seen.error:
        yield f"the launcher broke: {seen.error}"
    if seen.outcome is None or account.any_failure:
        return
    if seen.foreign and seen.exit_code and not (seen.outcome.failed or account.exit_code_seen):
        meant = f"if it is meant: assert_exit_code(outcome, {seen.exit_code})"
        yield f"the agent exited with {seen.exit_code}, and nobody expected it ({meant})"
    if seen.unseen and not seen.exit_code and not seen.outcome.timed_out and not _breaks_agent(seen):
        yield seen.unseen
    for rank in seen.outcome.failed:
        if rank not in account.failures_seen:
            yield f"{seen.outcome.ranks[rank]}, and nobody expected it (if it is meant: assert_failed(outcome, {rank}))"


def _breaks_agent(seen: Observation) -> bool:
    """Whether the launcher itself was broken on purpose: it may have been stopped while it was starting ranks."""
    return any(told.fault.target == AGENT for told in seen.faults)


def _timeout(seen: Observation, account: Account) -> Iterator[str]:
    if seen.outcome is not None and seen.outcome.timed_out and not account.timeout_seen:
        yield f"timed out: {seen.outcome.stop_reason} (if it is meant: assert_timed_out(outcome))"


def _faults(seen: Observation, account: Account) -> Iterator[str]:
    for told in seen.faults:
        if not told.injected and (told.fault.id, told.rank) not in account.faults_seen:
            yield f"a fault did not verifiably happen: {told} (if it is meant: assert_not_injected(outcome))"


def judge_left(seen: Observation, account: Account) -> list[str]:
    """Processes that outlived their ranks and were not looked at.

    A rank that was killed could not clean up: what it left counts only if derail could not end it either. A rank that
    ended by itself could have.
    """
    if seen.outcome is None or account.leftovers_seen:
        return []
    return [str(left) for left in seen.leftovers if not left.ended or could_clean_up(seen.outcome, left.rank)]


def could_clean_up(outcome: JobOutcome, rank: int | None = None) -> bool:
    """Whether a rank, or each of them, ended by itself and with a code: then its own clean-up has run."""
    fate = None if rank is None else outcome.ranks.get(rank)
    fates = list(outcome.ranks.values()) if fate is None else [fate]
    return all(fate.cause is Cause.SELF and fate.status is not None and fate.status.code is not None for fate in fates)
