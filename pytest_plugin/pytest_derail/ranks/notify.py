"""FIFO on which ranks report the start and the failure of a test, and the job reports its end.

A named pipe, because any rank can open it by its path, however its process was created, and a rank that dies does not
damage it.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Literal, Protocol, Self

from derail.model.events import Finished
from pytest_derail.ranks.worker.held_os import Held

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from derail.model.events import Event, JobControl

JOB_OVER = b"over\n"


class Readable(Protocol):
    """Object with a descriptor that polls readable."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Bell:
    """Controller end of the FIFO; an observer of the job. Use it as a context manager."""

    wants_lines = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._received = b""

    def __enter__(self) -> Self:
        """Create and open the FIFO."""
        os.mkfifo(self.path)
        # Open for reading and writing: there is always a writer, so that poll never reports POLLHUP.
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        """Close and remove the FIFO."""
        fd, self._fd = self._fd, -1
        os.close(fd)
        self.path.unlink(missing_ok=True)

    def fileno(self) -> int:
        """Return the descriptor, which polls readable when a message has arrived."""
        return self._fd

    @property
    def job_is_over(self) -> bool:
        """Whether the job has reported its end."""
        return JOB_OVER in self._received

    @property
    def begun(self) -> frozenset[int]:
        """The ranks in which the test has begun."""
        return frozenset(self._ranks("begun"))

    @property
    def first_bad(self) -> int | None:
        """First rank that reported that the test did not pass."""
        return next(iter(self._ranks("bad")), None)

    def _ranks(self, message: str) -> list[int]:
        words = [line.decode(errors="replace").split() for line in self._received.split(b"\n")[:-1]]
        return [int(line[1]) for line in words if line[0] == message]

    def wait(self, seconds: float, others: Sequence[Readable] = ()) -> None:
        """Wait until a message arrives, or until one of ``others`` is readable, for at most ``seconds``."""
        __tracebackhide__ = True
        poll = select.poll()
        for each in (self, *others):
            poll.register(each.fileno(), select.POLLIN)
        ready = poll.poll(None if seconds == float("inf") else max(0.0, seconds) * 1000)
        if any(fd == self._fd for fd, _ in ready):
            self._received += os.read(self._fd, 4096)

    def attach(self, job: JobControl) -> None:
        """Do nothing: no preparation is needed."""

    def observe(self, event: Event) -> None:
        """Write a message when the job is over."""
        if isinstance(event, Finished) and self._fd >= 0:
            os.write(self._fd, JOB_OVER)


def ring(path: Path, rank: int, what: Literal["begun", "bad"]) -> None:
    """In a rank: report that the test has begun, or did not pass.

    Without a reader this does nothing.
    """
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
