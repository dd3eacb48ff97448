"""Child processes with a deadline that also holds when the time is frozen.

``subprocess`` measures its own timeouts with ``time.monotonic``, which freezegun replaces there: they never expire.
"""

from __future__ import annotations

import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@contextmanager
def killed_after(seconds: float, child: subprocess.Popen[Any]) -> Iterator[threading.Event]:
    """Kill a child if the block lasts longer; the event is set in that case."""
    late = threading.Event()

    def kill() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()


def run_bounded(
    argv: Sequence[str], seconds: float, *, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, without input, and return its exit code and output.

    Raises:
        subprocess.TimeoutExpired: if it had to be killed after ``seconds``.
        OSError: if it cannot be started.
    """
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=cwd
    ) as child:
        try:
            with killed_after(seconds, child) as late:
                stdout, stderr = child.communicate()
        except BaseException:
            child.kill()
            raise
        if late.is_set():
            raise subprocess.TimeoutExpired(argv, seconds)
        return subprocess.CompletedProcess(argv, child.returncode, stdout, stderr)
