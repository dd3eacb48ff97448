"""Functions of the ranks in these tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time


def who_am_i(*args: object) -> tuple[object, ...]:
    """Return rank, world size, arguments, and a variable."""
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), args, os.environ.get("COLOUR")


def steps() -> None:
    """Print each step, for much longer than any test waits."""
    for step in range(6000):
        print(f"step {step}", flush=True)
        time.sleep(0.01)  # noqa: TID251 - a rank at work


def leave_a_helper() -> int:
    """Start a detached process, and return its pid."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True).pid


def deaf() -> None:
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(600)  # noqa: TID251 - for longer than any test
