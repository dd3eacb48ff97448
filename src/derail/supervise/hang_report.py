"""Where ranks hang that do not end: what the kernel knows of them, and the Python stacks that they write."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from derail.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOOK_SECONDS = 0.005
STACK_BYTES = 1 << 16
"""Of the Python stack that a hung rank writes, at most so many bytes are read."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Where a rank hung.

    Attributes:
        described: what the kernel said: state, wait channel, system call.
        stderr: the file of its stderr, if it was asked for its Python stack: the stack goes there.
        offset: bytes of that file before the stack.
    """

    described: str
    stderr: Path | None = None
    offset: int = 0

    def stack(self) -> str:
        """Return the Python stack, as far as the rank has written it by now; empty if there is none. Never raises."""
        if self.stderr is None:
            return ""
        try:
            with self.stderr.open("rb") as file:
                file.seek(self.offset)
                return file.read(STACK_BYTES).decode(errors="replace")
        except OSError:
            return ""

    def complete(self) -> str:
        """Return what the kernel said, with the Python stack under it; never raises."""
        stack = self.stack().strip()
        return f"{self.described}\n{stack}" if stack else self.described


def report_hangs(pids: Mapping[int, int], stderrs: Mapping[int, Path | None], *, patience: float) -> dict[int, Hang]:
    """Look where ranks hang, and ask those that run Python for their stacks.

    Args:
        pids: the processes, by rank.
        stderrs: the files of their stderr; None for a rank without one.
        patience: seconds at most to wait until the stacks are written. A rank has to get its turn on a busy machine,
            and one that is frozen never writes.
    """
    from derail.platform.hang import answers_still, ask_for_python_stack, deaf_threads, describe

    sizes = {rank: _size(stderrs[rank]) for rank in pids}
    described = {rank: describe(pid) for rank, pid in pids.items()}  # all before one is asked, which may wake others
    deaf = {rank: deaf_threads(pid) for rank, pid in pids.items()}
    answering = [rank for rank, pid in pids.items() if ask_for_python_stack(pid)]
    pause, end = threading.Event(), SYSTEM_CLOCK.now() + patience
    while any(answers_still(pids[rank], deaf=deaf[rank]) for rank in answering) and SYSTEM_CLOCK.now() < end:
        pause.wait(LOOK_SECONDS)
    written = {rank: stderrs[rank] for rank in answering if sizes[rank] is not None}
    return {rank: Hang(described[rank], written.get(rank), sizes[rank] or 0) for rank in pids}


def _size(path: Path | None) -> int | None:
    """The size of a regular file in bytes; None of anything else."""
    try:
        return path.stat().st_size if path is not None and path.is_file() else None
    except OSError:
        return None
