"""What a person sees on stderr while a job runs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from derail.agents.native import NativeJob
    from derail.faults.plan import Plan
    from derail.progress import Progress


def display(ranks: int, plan: Plan, *, live: bool) -> Progress:
    """A display on stderr: a table on a terminal that nobody else writes to, else lines."""
    from derail.progress import Board, Progress

    return Progress(
        Board(ranks, faults=[str(fault) for fault in plan.faults]), sys.stderr, live=live and _is_terminal()
    )


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def watch_faults(progress: Progress, job: NativeJob) -> None:
    """Show what has come of a fault as soon as it is known, and what was planned until then."""
    from derail.faults.results import NotReached, Unknown

    def states() -> Sequence[str]:
        told = job.fault_results()
        return [
            f"{result.fault}" if isinstance(result.result, NotReached | Unknown) else f"{result.fault}: {result.status}"
            for result in told
        ]

    progress.watch_faults(states)
