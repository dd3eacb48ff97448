"""Report of where hung ranks are: their kernel state, and the Python stacks that they write."""

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
"""Bytes that are read at most of the Python stack of a hung rank."""


@dataclass(frozen=True, slots=True)
class Hang:
    """The place where a rank hung.

    Attributes:
        described: report of the kernel: state, wait channel, system call.
        stderr: the file of its stderr, if its Python stack was requested: the stack goes there.
        offset: bytes of that file before the stack.
    """

    described: str
    stderr: Path | None = None
    offset: int = 0

    def stack(self) -> str:
        """Return the Python stack, as far as the rank has written it; empty if there is none. Never raises."""
        if self.stderr is None:
            return ""
        try:
            with self.stderr.open("rb") as file:
                file.seek(self.offset)
                return file.read(STACK_BYTES).decode(errors="replace")
        except OSError:
            return ""

    def complete(self) -> str:
        """Return the report of the kernel, followed by the Python stack; never raises."""
        stack = self.stack().strip()
        return f"{self.described}\n{stack}" if stack else self.described


def report_hangs(pids: Mapping[int, int], stderrs: Mapping[int, Path | None], *, patience: float) -> dict[int, Hang]:
    """Report where ranks hang, and request the stacks of those that run Python.

    Args:
        pids: the processes, by rank.
        stderrs: the files of their stderr; None for a rank without one.
        patience: maximum seconds to wait for the stacks. A rank needs CPU time on a busy machine to write one, and a
            frozen rank never writes one.
    """
    from derail.platform.hang import answers_still, ask_for_python_stack, deaf_threads, describe

    sizes = {rank: _size(stderrs[rank]) for rank in pids}
    described = {rank: describe(pid) for rank, pid in pids.items()}  # before any request, which may wake other ranks
    deaf = {rank: deaf_threads(pid) for rank, pid in pids.items()}
    answering = [rank for rank, pid in pids.items() if ask_for_python_stack(pid)]
    pause, end = threading.Event(), SYSTEM_CLOCK.now() + patience
    while any(answers_still(pids[rank], deaf=deaf[rank]) for rank in answering) and SYSTEM_CLOCK.now() < end:
        pause.wait(LOOK_SECONDS)
    written = {rank: stderrs[rank] for rank in answering if sizes[rank] is not None}
    return {rank: Hang(described[rank], written.get(rank), sizes[rank] or 0) for rank in pids}


def _size(path: Path | None) -> int | None:
    """Return the size of a regular file in bytes; None for anything else."""
    try:
        return path.stat().st_size if path is not None and path.is_file() else None
    except OSError:
        return None
