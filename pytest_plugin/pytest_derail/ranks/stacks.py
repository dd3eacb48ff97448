"""Stacks of ranks that did not end, taken while they still run, before they are stopped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from derail.diagnose.stacks import equal_stacks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from derail.diagnose.examine import Examination
    from derail.diagnose.verdict import HangVerdict
    from derail.scenario.model import JobResult

ANSWER_SECONDS = 5.0
"""Seconds for a rank to write its stack on a busy machine. A frozen rank never does."""

RECORDER_FRAME = re.compile(r'^  File ".*[/\\]derail[/\\]faults[/\\]inrank[/\\]recorder\.py"')
INNER_FRAMES = re.compile(r'^  File ".*[/\\](_pytest|pluggy|pytest_derail|derail)[/\\]')


class RanksJob(Protocol):
    """Job of the ranks of a test: derail's own, or that of another launcher."""

    @property
    def rings(self) -> Path | None:
        """Directory of the ranks' ring files; None if they do not record their collectives."""

    def pids(self) -> dict[int, int]:
        """Return the pid of each rank on this machine."""

    @property
    def ranks(self) -> Collection[int]:
        """All ranks."""

    def log(self, rank: int, stream: str) -> Path:
        """Return the file of a stream of a rank."""

    def examine(self, *, ended: Mapping[int, str] | None = None, patience: float) -> Examination:
        """Examine the ranks of a job that hangs."""

    def note_hang(self, verdict: HangVerdict) -> None:
        """Put a verdict into the result."""

    def stop(self, reason: str, *, timed_out: bool = False, grace: float | None = None) -> None:
        """Request the end of the job."""

    def close(self) -> None:
        """End the job."""

    def wait(self, timeout: float | None = None) -> JobResult:
        """Wait for the end of the job, and return its result."""


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


DESYNCS = ("other operation", "other shape", "other group")
"""Evidence that a rank is out of step, also where another rank has failed because of that."""


def look(
    job: RanksJob, ranks: Collection[int], why: Literal["hang", "failure", "interrupt"]
) -> Mapping[int, Whereabouts]:
    """Return the state of these ranks of a job, except those that have ended by now, and note the verdict on a hang.

    Args:
        job: the job.
        ranks: the ranks that have not finished.
        why: the reason to look. After the failure of a rank it is no news that others wait for it, and a job that is
            interrupted need not hang.
    """
    done = {rank: "has finished the test" for rank in job.ranks if rank not in ranks}
    found = job.examine(ended=done, patience=ANSWER_SECONDS)
    reasons = {culprit.reason for culprit in found.verdict.culprits}
    news = {"hang": True, "failure": bool(reasons & {*DESYNCS}), "interrupt": bool(reasons)}[why]
    if job.rings is not None and news:
        job.note_hang(found.verdict)
    return {
        rank: Whereabouts(hang.described, shorten(hang.stack()), hang.offset)
        for rank, hang in found.hangs.items()
        if "state: " in hang.described and "state: Z" not in hang.described
    }


def places(where: Mapping[int, Whereabouts]) -> Iterator[tuple[str, str]]:
    """Yield the places of ranks, each with a title; ranks with equal stacks share one."""
    for ranks, stack in equal_stacks({rank: place.stack for rank, place in where.items()}):
        systems = {rank: where[rank].system for rank in ranks}
        if len(ranks) == 1 or len({*systems.values()}) == 1:
            system = systems[ranks[0]]
        else:
            system = "\n".join(f"rank {rank}: {', '.join(text.splitlines())}" for rank, text in systems.items())
        numbers = ", ".join(map(str, ranks))
        title = f"rank {numbers}: where it was" if len(ranks) == 1 else f"ranks {numbers}: where they were"
        yield title, f"{stack or 'no Python stack received'}\n{system}"


def shorten(stack: str) -> str:
    """Drop from each thread the frames below pytest's and derail's own, which are the same in every test.

    The recorder stands between a collective and its caller: only its own frame is dropped.
    """
    lines, hidden = [], 0
    for line in stack.splitlines():
        if RECORDER_FRAME.match(line):
            continue
        if not line.startswith("  "):
            hidden = 0
        hidden += bool(hidden) or INNER_FRAMES.match(line) is not None
        if not hidden:
            lines.append(line)
        elif hidden == 1:
            lines.append("  ...")
    return "\n".join(lines)
