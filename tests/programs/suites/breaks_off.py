"""Rank 0 signals the controller when all ranks wait."""

import os
import signal
import threading

import pytest

NUMBER = "SIGINT"


@pytest.fixture(scope="session")
def controller():
    return os.getpid()


def waits_here(arrived):
    arrived.touch()
    threading.Event().wait()


@pytest.mark.ranks(2)
def test_it(rank, controller, tmp_path):
    print("printed by", rank, flush=True)
    while rank == 0 and not ((tmp_path / "1").exists() and os.path.exists(os.environ["HERE"] + "/waits")):
        pass
    if rank == 0:
        os.kill(controller, getattr(signal, NUMBER))
    waits_here(tmp_path / str(rank))
