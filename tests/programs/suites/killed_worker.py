"""A rank kills its worker of xdist."""

import os
import signal
import threading

import pytest


@pytest.fixture(scope="session")
def worker_pid():
    return os.getpid()


@pytest.mark.ranks(2)
def test_kills_the_worker(rank, worker_pid):
    if rank == 0:
        os.kill(worker_pid, signal.SIGKILL)
    threading.Event().wait()


@pytest.mark.ranks(2)
def test_after():
    pass
