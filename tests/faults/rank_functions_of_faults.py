"""Functions that ranks run; they must be importable by a spawned process."""

import os
import time


def work(steps=200):
    """Prints its steps."""
    for step in range(1, steps + 1):
        print("step", step, flush=True)
        time.sleep(0.02)  # noqa: TID251 - this is the work
    return os.getpid()


def says_who(*_):
    """Returns its own pid."""
    return os.getpid()
