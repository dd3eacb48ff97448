"""A bell that ranks ring when the test begins, or does not pass, in them, and the job when it is over.

A named pipe: any rank finds it by its path, however its process was made, and a rank that dies leaves it as it was.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Literal, Self

from derail.model.events import Finished
from pytest_derail.ranks.worker.held_os import Held

if TYPE_CHECKING:
    from pathlib import Path

    from derail.model.events import Event, JobControl

JOB_OVER = b"over\n"


class Bell:
    """The controller's end; an observer of the job. Use it as a context manager."""

    wants_lines = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._heard = b""

    def __enter__(self) -> Self:
        """Hang it up."""
        os.mkfifo(self.path)
        # For reading and writing: there is always a writer, so that it never polls as ended.
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        """Take it down."""
        fd, self._fd = self._fd, -1
        os.close(fd)
        self.path.unlink(missing_ok=True)

    def fileno(self) -> int:
        """Polls readable when somebody has rung."""
        return self._fd

    @property
    def job_is_over(self) -> bool:
        """Whether the job has said so."""
        return JOB_OVER in self._heard

    @property
    def begun(self) -> frozenset[int]:
        """The ranks in which the test has begun."""
        return frozenset(self._ranks("begun"))

    @property
    def first_bad(self) -> int | None:
        """The rank that was the first to say that the test did not pass in it."""
        return next(iter(self._ranks("bad")), None)

    @property
    def first_to_debug(self) -> int | None:
        """The rank that was the first to ask for somebody who looks into it."""
        return next(iter(self._ranks("debug")), None)

    def _ranks(self, what: str) -> list[int]:
        words = [line.decode(errors="replace").split() for line in self._heard.split(b"\n")[:-1]]
        return [int(line[1]) for line in words if line[0] == what]

    def wait(self, seconds: float) -> None:
        """Wait until somebody rings, at most so long."""
        __tracebackhide__ = True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(None if seconds == float("inf") else max(0.0, seconds) * 1000):
            self._heard += os.read(self._fd, 4096)

    def attach(self, job: JobControl) -> None:
        """Nothing is to be prepared."""

    def observe(self, event: Event) -> None:
        """Ring when the job is over."""
        if isinstance(event, Finished) and self._fd >= 0:
            os.write(self._fd, JOB_OVER)


def ring(path: Path, rank: int, what: Literal["begun", "bad", "debug"]) -> None:
    """In a rank: say that the test has begun, or does not pass, here, or that somebody may look into it. If nobody
    listens any more, no matter."""
    try:
        fd = Held.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        Held.write(fd, f"{what} {rank}\n".encode())
    except OSError:
        pass
    finally:
        Held.close(fd)
