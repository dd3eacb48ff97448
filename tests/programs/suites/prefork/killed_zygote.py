"""Ranks that kill the process that they were forked from."""

import os
import signal

import pytest
from notes import note


@pytest.mark.ranks(2)
def test_killed(rank):
    if rank == 0:
        note("killed", os.getppid())
        os.kill(os.getppid(), signal.SIGKILL)


@pytest.mark.ranks(2)
def test_after(rank):
    note("after", os.getppid())


@pytest.mark.ranks(2, reuse="module")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_kept(rank, number):
    note("kept", os.getpid())
    if number == 2 and rank == 0:
        os.kill(os.getppid(), signal.SIGKILL)
