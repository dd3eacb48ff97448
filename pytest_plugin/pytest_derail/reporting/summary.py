"""Counts of a session for the summary: jobs, ranks, faults, leftovers.

Counts travel on reports, so that those of xdist's workers arrive as well.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pytest

    from derail.scenario.model import JobResult

KINDS = ("jobs", "ranks", "faults injected", "not injected", "leftovers")


def note(report: pytest.TestReport, jobs: Iterable[JobResult], *, ranks: int = 0) -> None:
    """Put the counts of a test's jobs on its last report; ``ranks`` counts for a job whose end was not observed."""
    counts = dict.fromkeys(KINDS, 0)
    for seen in jobs:
        counts["jobs"] += 1
        counts["ranks"] += len(seen.ranks) if seen.ran else ranks
        counts["faults injected"] += sum(fault.injected for fault in seen.faults)
        counts["not injected"] += sum(not fault.injected for fault in seen.faults)
        counts["leftovers"] += len(seen.leftovers)
    if counts["jobs"]:
        vars(report)["derail_counts"] = counts  # pytest serialises attributes of plugins along with a report


def note_words(report: pytest.TestReport, *, spawned: str, replaced: str = "") -> None:
    """Put on the last report of a test why its ranks had to be spawned, and why reused ranks were replaced after it."""
    if spawned:
        vars(report)["derail_spawned"] = spawned
    if replaced:
        vars(report)["derail_replaced"] = f"{report.nodeid}: {replaced}"


def summary(counted: Iterable[Mapping[str, int]]) -> str:
    """Return one line with the totals of all reports."""
    totals = dict.fromkeys(KINDS, 0)
    for counts in counted:
        for kind, count in counts.items():
            totals[kind] += count
    return "derail: " + ", ".join(_number(*total) for total in totals.items())


def fallbacks(reasons: Iterable[str]) -> Iterator[str]:
    """Yield one line for each reason why ranks were spawned instead of forked."""
    counts = Counter(reasons)
    for reason, count in counts.items():
        yield f"derail: {count} test{'s' if count > 1 else ''} not on warm ranks, but on spawned ones: {reason}"


def replacements(reasons: Sequence[str]) -> Iterator[str]:
    """Yield the reasons why reused ranks had to be replaced."""
    if reasons:
        yield f"derail: kept ranks were replaced after {len(reasons)} test{'s' if len(reasons) > 1 else ''}:"
        yield from (f"  {reason}" for reason in reasons)


def _number(kind: str, count: int) -> str:
    singular = {"jobs": "job", "ranks": "rank", "faults injected": "fault injected", "leftovers": "leftover"}
    return f"{count} {singular.get(kind, kind) if count == 1 else kind}"
