"""Where ranks were that did not end: asked while they still live, before anybody stops them."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.hang import answers_still, ask_for_python_stack, deaf_threads, describe

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from derail.agents.native_job import NativeJob

ANSWER_SECONDS = 5.0
"""How long a rank may take to write its stack, on a machine that has much else to do. One in the freezer never does."""

LOOK_SECONDS = 0.01
LIMIT = 64 << 10
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
    logs = {rank: job.log(rank, "stderr") for rank in ranks}
    before = {rank: _size(path) for rank, path in logs.items()}
    system = {rank: describe(pids[rank]) for rank in ranks}
    deaf = {rank: deaf_threads(pids[rank]) for rank in ranks}
    asked = [rank for rank in ranks if ask_for_python_stack(pids[rank])]
    _await_answers({pids[rank]: deaf[rank] for rank in asked})
    stacks = {rank: _read(logs[rank], before[rank]) for rank in asked}
    return {
        rank: Whereabouts(system[rank], shorten(stacks.get(rank, "")), before[rank])
        for rank in ranks
        if "state: " in system[rank] and "state: Z" not in system[rank]
    }


def _await_answers(asked: Mapping[int, Collection[str]]) -> None:
    """Wait until these processes have come to the end of their stacks. A pause is no end: one may lose its processor in
    the middle."""
    deadline = SYSTEM_CLOCK.now() + ANSWER_SECONDS
    while any(answers_still(pid, deaf=deaf) for pid, deaf in asked.items()) and SYSTEM_CLOCK.now() < deadline:
        threading.Event().wait(LOOK_SECONDS)


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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path, offset: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(LIMIT).decode(errors="replace")
    except OSError:
        return ""
