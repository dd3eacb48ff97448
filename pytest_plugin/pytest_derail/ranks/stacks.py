"""Where ranks were that did not end: asked while they still live, before anybody stops them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.supervise.hang_report import report_hangs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from derail.agents.native_job import NativeJob

ANSWER_SECONDS = 5.0
"""How long a rank may take to write its stack, on a machine that has much else to do. One in the freezer never does."""

INNER_FRAMES = re.compile(r'^  File ".*[/\\](_pytest|pluggy|pytest_derail|derail)[/\\]')


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where one rank was.

    Attributes:
        system: what the kernel says: state, wait channel, system call.
        stack: the Python stacks of its threads, the test's own frames of them; empty if it gave none.
        stderr_end: where its stderr ended before it was asked, for the answer goes there too.
    """

    system: str
    stack: str
    stderr_end: int

    def __str__(self) -> str:
        """Both, for people: Python's first."""
        return f"{self.stack or 'it gave no Python stack'}\n{self.system}"


def look(job: NativeJob, ranks: Collection[int]) -> Mapping[int, Whereabouts]:
    """Find out where these ranks of a job are. Those that have ended meanwhile are left out."""
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
    """Of each thread the frames above pytest's and derail's own, which are the same in every test."""
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
