"""Stacks of ranks that did not end, taken while they still run, before they are stopped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.supervise.hang_report import report_hangs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from derail.agents.native_job import NativeJob

ANSWER_SECONDS = 5.0
"""Seconds for a rank to write its stack on a busy machine. A frozen rank never does."""

INNER_FRAMES = re.compile(r'^  File ".*[/\\](_pytest|pluggy|pytest_derail|derail)[/\\]')


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """State of one rank.

    Attributes:
        system: its state according to the kernel: state, wait channel, system call.
        stack: the Python stacks of its threads, reduced to the test's own frames; empty if it wrote none.
        stderr_end: size of its stderr log before the request, because the answer goes there as well.
    """

    system: str
    stack: str
    stderr_end: int

    def __str__(self) -> str:
        """Return both for display, the Python stack first."""
        return f"{self.stack or 'no Python stack received'}\n{self.system}"


def look(job: NativeJob, ranks: Collection[int]) -> Mapping[int, Whereabouts]:
    """Return the state of these ranks of a job, except those that have ended by now."""
    pids = job.pids()
    hangs = report_hangs(
        {rank: pids[rank] for rank in ranks}, {rank: job.log(rank, "stderr") for rank in ranks}, patience=ANSWER_SECONDS
    )
    return {
        rank: Whereabouts(hang.described, shorten(hang.stack()), hang.offset)
        for rank, hang in hangs.items()
        if "state: " in hang.described and "state: Z" not in hang.described
    }


def shorten(stack: str) -> str:
    """Drop from each thread the frames below pytest's and derail's own, which are the same in every test."""
    lines, hidden = [], 0
    for line in stack.splitlines():
        if not line.startswith("  "):
            hidden = 0
        hidden += bool(hidden) or INNER_FRAMES.match(line) is not None
        if not hidden:
            lines.append(line)
        elif hidden == 1:
            lines.append("  ...")
    return "\n".join(lines)
