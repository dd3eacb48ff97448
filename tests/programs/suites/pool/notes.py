"""Notes of ranks: which process ran what."""

import os
import signal
import subprocess
import sys
import threading

import pytest


@pytest.fixture(scope="session")
def seen():
    return os.environ["SEEN"]


def note(seen, rank, name):
    with open(f"{seen}/{name}-{rank}", "a") as file:
        file.write(f"{os.getpid()}\n")


def wait_for_both(seen, name):
    # The end of one is that of the other, which may not have noted anything so far.
    paths = [f"{seen}/{name}-{rank}" for rank in (0, 1)]
    while not all(os.path.exists(path) and os.path.getsize(path) for path in paths):
        threading.Event().wait(0.01)
