"""Functions of ranks, importable by a spawned process."""

import os
import time
from pathlib import Path


def work(steps=200):
    """Print steps."""
    for step in range(1, steps + 1):
        print("step", step, flush=True)
        time.sleep(0.02)  # noqa: TID251 - this is the work
    return os.getpid()


def waits_for(journal, text):
    """End when the journal contains a text."""
    while text not in Path(journal).read_text():
        time.sleep(0.01)  # noqa: TID251 - a file tells nobody when it grows


def says_who(*_):
    """Return its own pid."""
    return os.getpid()
