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
    from derail.scenario.model import JobResult


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
"""By the identity of a result, which is kept so that no other object gets the same one."""


def open_account(result: JobResult, account: Account) -> None:
    """Note from now on what assertions ask about a result."""
    _open[id(result)] = (result, account)


def close_account(result: JobResult) -> None:
    """Forget a result. Idempotent."""
    _open.pop(id(result), None)


def account_of(result: object) -> Account:
    """Return the account of a result; one that is never read if it is of no job of a test."""
    found = _open.get(id(result))
    return Account() if found is None else found[1]


def judge(seen: JobResult, account: Account) -> list[str]:
    """What went wrong in a job and was not looked at."""
    return [*_failures(seen, account), *_timeout(seen, account), *_faults(seen, account)]


def _failures(seen: JobResult, account: Account) -> Iterator[str]:
    if seen.error:
        yield f"the launcher broke: {seen.error}"
    if not seen.ran or account.any_failure:
        return
    if seen.external and seen.exit_code and not (seen.failed or account.exit_code_seen):
        meant = f"if it is meant: assert_exit_code(result, {seen.exit_code})"
        yield f"the agent exited with {seen.exit_code}, and nobody expected it ({meant})"
    if seen.unseen and not seen.exit_code and not seen.timed_out and not _breaks_agent(seen):
        yield seen.unseen
    for rank in seen.failed:
        if rank not in account.failures_seen:
            yield f"{seen.ranks[rank]}, and nobody expected it (if it is meant: assert_failed(result, {rank}))"


def _breaks_agent(seen: JobResult) -> bool:
    """Whether the launcher itself was broken on purpose: it may have been stopped while it was starting ranks."""
    return any(told.fault.target == AGENT for told in seen.faults)


def _timeout(seen: JobResult, account: Account) -> Iterator[str]:
    if seen.timed_out and not account.timeout_seen:
        yield f"timed out: {seen.stop_reason} (if it is meant: assert_timed_out(result))"


def _faults(seen: JobResult, account: Account) -> Iterator[str]:
    for told in seen.faults:
        if not told.injected and (told.fault.id, told.rank) not in account.faults_seen:
            yield f"a fault did not verifiably happen: {told} (if it is meant: assert_not_injected(result))"


def judge_left(seen: JobResult, account: Account) -> list[str]:
    """Processes that outlived their ranks and were not looked at.

    A rank that was killed could not clean up: what it left counts only if derail could not end it either. A rank that
    ended by itself could have.
    """
    if not seen.ran or account.leftovers_seen:
        return []
    return [str(left) for left in seen.leftovers if not left.ended or could_clean_up(seen, left.rank)]


def could_clean_up(result: JobOutcome, rank: int | None = None) -> bool:
    """Whether a rank, or each of them, ended by itself and with a code: then its own clean-up has run."""
    fate = None if rank is None else result.ranks.get(rank)
    fates = list(result.ranks.values()) if fate is None else [fate]
    return all(fate.cause is Cause.SELF and fate.status is not None and fate.status.code is not None for fate in fates)
