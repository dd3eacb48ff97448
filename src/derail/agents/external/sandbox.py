"""Sandbox of an external supervisor: a child process that adopts, counts and ends all that the supervisor leaves.

Whatever the supervisor does, there is an answer in bounded time. When this process is gone, for whatever reason, the
child reads the end of its stdin, ends everything, and cleans up. If the child is gone as well, a keeper does this, by
the mark that all processes but the child carry.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from derail.agents.external.messages import Seen
from derail.model.clock import SYSTEM_CLOCK
from derail.platform import exits
from derail.platform.bounded import killed_after
from derail.platform.leftovers import end_processes, find_processes
from derail.platform.lifeline import Lifeline
from derail.platform.private_files import open_private

if TYPE_CHECKING:
    from derail.agents.external.messages import Order

MARGIN = 20.0
"""Seconds that the sandbox may need, in addition to the job, to start, to count leftovers, and to end them."""
END_WAIT = 8.0
"""Seconds that it has to end everything when the run is cancelled."""


def run(order: Order, log: Path) -> Seen:
    """Carry out an order and return the observations; afterwards, even after an exception, nothing of the job is left.

    Args:
        order: the order.
        log: the file for the sandbox's own errors.

    Raises:
        OSError: if no sandbox can be made here.
        BaseException: an exception of a signal handler during the run; the job is ended first.
    """
    lifeline = Lifeline(order.job)
    with ExitStack() as stack:
        # This process and the child both remove it, as either may be gone by then.
        temporary = stack.enter_context(TemporaryDirectory(prefix="derail-", ignore_cleanup_errors=True))
        data = pickle.dumps(replace(order, temporary=Path(temporary)))
        lifeline.start()
        stack.callback(lifeline.stop)
        with open(open_private(log, os.O_WRONLY | os.O_APPEND), "ab") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "derail.agents.external.sandbox_main"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        stack.callback(_end, child, order.job)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(len(data).to_bytes(8, "big") + data)
            child.stdin.flush()
        except BrokenPipeError:
            return Seen(error=_last_words(log))
        answer = _read(child.stdout.fileno(), SYSTEM_CLOCK.now() + order.timeout + MARGIN)
        try:
            seen = pickle.loads(answer or b"")
        except (EOFError, pickle.UnpicklingError):
            late = "did not answer in time" if answer is None else f"ended before it could answer: {_last_words(log)}"
            return Seen(error=f"the sandbox {late}")
        assert isinstance(seen, Seen)
        return seen


def _read(fd: int, deadline: float) -> bytes | None:
    """Return all data until the other end is closed; None if it is still open at the deadline."""
    data = b""
    while True:
        left = deadline - SYSTEM_CLOCK.now()
        if left <= 0 or not exits.is_readable(fd, left):
            return None
        more = os.read(fd, 1 << 20)
        if not more:
            return data
        data += more


def _end(child: subprocess.Popen[bytes], job: str) -> None:
    """Let the sandbox end everything, then end it; if it was killed, find its leftovers by their mark."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                pass
    with killed_after(END_WAIT, child):
        child.wait()

    if child.returncode != 0:
        end_processes(
            find_processes(job, (), looks=3),
            deadline=SYSTEM_CLOCK.now() + END_WAIT,
            find_more=lambda: find_processes(job, (), looks=3),
        )


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it printed nothing"
