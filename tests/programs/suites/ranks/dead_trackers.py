"""A rank makes shared memory and a semaphore, and kills its resource tracker."""

import multiprocessing
import os
import signal
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

import pytest

NAME = ""
kept = []


def make_and_kill_tracker(rank):
    kept.append(SharedMemory(f"{NAME}-made-{rank}", create=True, size=1))
    kept.append(multiprocessing.get_context("spawn").Semaphore())
    kept.append(SharedMemory(f"{NAME}-strangers"))  # attached to
    with open(f"{rank}.semaphore", "w") as file:
        file.write(kept[1]._semlock.name)
    tracker = resource_tracker._resource_tracker._pid
    os.kill(tracker, signal.SIGKILL)
    os.waitpid(tracker, 0)
