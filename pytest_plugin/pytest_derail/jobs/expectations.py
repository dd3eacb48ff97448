"""Failures that a test has checked, and failures that fail it because it has not.

Assertions record here which failures they check; the ``derail`` fixture reads the record after the test's own code.
An unexpected failure is reported with the assertion to write if it is intended.
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
    """Failures of one job that a test has checked or expects.

    Attributes:
        failures_seen: ranks that an assertion checked, or that the test expects to fail.
        any_failure: whether it expects the failure of any rank.
        timeout_seen: whether it checked that the job timed out.
        faults_seen: faults, with their rank, that it expects not to have happened.
        leftovers_seen: whether it checked the leftovers of the job.
        exit_code_seen: whether it expects an exit code of the agent other than 0.
    """

    failures_seen: set[int] = field(default_factory=set)
    any_failure: bool = False
    timeout_seen: bool = False
    faults_seen: set[tuple[str, int | None]] = field(default_factory=set)
    leftovers_seen: bool = False
    exit_code_seen: bool = False

    def looked_at(self, *ranks: int) -> None:
        """Record that the test has checked the failure of these ranks."""
        self.failures_seen.update(ranks)


_open: dict[int, tuple[object, Account]] = {}
"""Accounts by the identity of the result, which is kept so that no other object gets the same identity."""


def open_account(result: JobResult, account: Account) -> None:
    """Record assertions about a result from now on."""
    _open[id(result)] = (result, account)


def close_account(result: JobResult) -> None:
    """Stop recording for a result. Idempotent."""
    _open.pop(id(result), None)


def account_of(result: object) -> Account:
    """Return the account of a result; a new one that is never read if the result is of no job of a test."""
    opened = _open.get(id(result))
    return Account() if opened is None else opened[1]


def judge(seen: JobResult, account: Account) -> list[str]:
    """Return the failures of a job that the test has not checked."""
    return [*_failures(seen, account), *_timeout(seen, account), *_faults(seen, account)]


def _failures(seen: JobResult, account: Account) -> Iterator[str]:
    if seen.error:
        yield f"the launcher broke: {seen.error}"
    if not seen.ran or account.any_failure:
        return
    if seen.external and seen.exit_code and not (seen.failed or account.exit_code_seen):
        meant = f"if that is intended: assert_exit_code(result, {seen.exit_code})"
        yield f"unexpected exit code of the agent: {seen.exit_code} ({meant})"
    if seen.unseen and not seen.exit_code and not seen.timed_out and not _breaks_agent(seen):
        yield seen.unseen
    for rank in seen.failed:
        if rank not in account.failures_seen:
            meant = f"assert_failed(result, {rank})" if rank == seen.root_cause else f"job.expect_failure({rank})"
            yield f"{seen.ranks[rank]}; unexpected (if that is intended: {meant})"


def _breaks_agent(seen: JobResult) -> bool:
    """Return whether a fault broke the launcher itself, which may have been stopped while it started ranks."""
    return any(result.fault.target == AGENT for result in seen.faults)


def _timeout(seen: JobResult, account: Account) -> Iterator[str]:
    if seen.timed_out and not account.timeout_seen:
        yield f"timed out: {seen.stop_reason} (if that is intended: assert_timed_out(result))"


def _faults(seen: JobResult, account: Account) -> Iterator[str]:
    for result in seen.faults:
        if not result.injected and (result.fault.id, result.rank) not in account.faults_seen:
            yield f"a fault did not verifiably happen: {result} (if that is intended: assert_not_injected(result))"


def judge_left(seen: JobResult, account: Account) -> list[str]:
    """Return processes that outlived their ranks and that the test has not checked.

    A killed rank could not clean up: its leftovers count only if derail could not end them either. A rank that ended by
    itself could have cleaned up.
    """
    if not seen.ran or account.leftovers_seen:
        return []
    return [str(left) for left in seen.leftovers if not left.ended or could_clean_up(seen, left.rank)]


def could_clean_up(result: JobOutcome, rank: int | None = None) -> bool:
    """Return whether a rank, or each of them, ended by itself with a code, so that its own clean-up has run."""
    fate = None if rank is None else result.ranks.get(rank)
    fates = list(result.ranks.values()) if fate is None else [fate]
    return all(fate.cause is Cause.SELF and fate.status is not None and fate.status.code is not None for fate in fates)
