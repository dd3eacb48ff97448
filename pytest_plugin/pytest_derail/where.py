"""Where ranks were that did not end: asked while they still live, before anybody stops them."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK
from derail.platform.hang import ask_for_python_stack, describe

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from derail.agents.native import NativeJob

ANSWER_SECONDS = 1.0
"""How long a rank may take to write its stack; one that is stopped (SIGSTOP, the freezer) never does."""

QUIET_SECONDS = 0.05
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
        """Both, for people."""
        return f"{self.system}\n{self.stack or 'it gave no Python stack'}"


def look(job: NativeJob, ranks: Collection[int]) -> Mapping[int, Whereabouts]:
    """Find out where these ranks of a job are. Those that have ended meanwhile are left out."""
    pids = job.pids()
    logs = {rank: job.log(rank, "stderr") for rank in ranks}
    before = {rank: _size(path) for rank, path in logs.items()}
    system = {rank: describe(pids[rank]) for rank in ranks}
    asked = [rank for rank in ranks if ask_for_python_stack(pids[rank])]
    stacks = _answers({rank: logs[rank] for rank in asked}, before)
    return {
        rank: Whereabouts(system[rank], shorten(stacks.get(rank, "")), before[rank])
        for rank in ranks
        if "State" in system[rank] or "state" in system[rank]
    }


def _answers(logs: Mapping[int, Path], before: Mapping[int, int]) -> dict[int, str]:
    """What ranks have written since; waits until nothing more comes, as nobody says when a stack is complete."""
    texts: dict[int, str] = {}
    deadline = SYSTEM_CLOCK.now() + ANSWER_SECONDS
    quiet_since = SYSTEM_CLOCK.now()
    while SYSTEM_CLOCK.now() < deadline:
        now = {rank: _read(path, before[rank]) for rank, path in logs.items()}
        if now != texts:
            texts, quiet_since = now, SYSTEM_CLOCK.now()
        elif all(texts.values()) and SYSTEM_CLOCK.now() - quiet_since > QUIET_SECONDS:
            break
        threading.Event().wait(0.01)
    return texts


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
