"""Where ranks hang that do not end: what the kernel knows of them, and the Python stacks that they write."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from derail.model.spec import RankSpec

ANSWER_WAIT = 2.0
"""Seconds that SIGKILL waits at most for stacks which are being written: on a busy machine a rank has to wait for its
turn to write."""

STACK_BYTES = 1 << 16
"""Of the Python stack that a hung rank writes, at most so much is kept."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Where a rank hung: what the kernel said, and where in its stderr the stack begins that it was asked for."""

    described: str
    stderr: Path | None = None
    offset: int = 0

    def complete(self) -> str:
        """With the Python stack, as far as the rank has written it by now; never raises."""
        if self.stderr is None:
            return self.described
        try:
            with self.stderr.open("rb") as file:
                file.seek(self.offset)
                stack = file.read(STACK_BYTES).decode(errors="replace").strip()
        except OSError:
            stack = ""
        return f"{self.described}\n{stack}" if stack else self.described


def report_hangs(specs: Mapping[int, RankSpec], pids: Mapping[int, int]) -> dict[int, Hang]:
    """Say what the kernel knows of ranks that do not end, and ask those in Python for their stacks. Returns when these
    are written, which takes moments, and is waited for in bounded time."""
    from derail.platform.hang import answers_still, ask_for_python_stack, deaf_threads, describe

    hangs, asked = {}, {}
    for rank, pid in pids.items():
        told, stderr, deaf = describe(pid), specs[rank].streams.stderr, deaf_threads(pid)
        try:
            offset = -1 if stderr is None or not stderr.is_file() else stderr.stat().st_size
        except OSError:
            offset = -1
        answers = ask_for_python_stack(pid)
        if answers:
            asked[pid] = deaf
        hangs[rank] = Hang(told, stderr, offset) if answers and offset >= 0 else Hang(told)
    pause, end = threading.Event(), SYSTEM_CLOCK.now() + ANSWER_WAIT
    while any(answers_still(pid, deaf=deaf) for pid, deaf in asked.items()) and SYSTEM_CLOCK.now() < end:
        pause.wait(0.002)
    return hangs
