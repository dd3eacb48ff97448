"""Rank 2 fails first, rank 0 after it, rank 1 hangs."""

import sys
import threading

import pytest


def wait_for(path):
    while not path.exists():
        threading.Event().wait(0.01)


@pytest.fixture
def telling(rank, tmp_path):
    yield
    (tmp_path / f"told-{rank}").touch()


@pytest.mark.ranks(4)
def test_one(rank, tmp_path, telling):
    print("out of", rank)
    print("err of", rank, file=sys.stderr)
    numbers = [1, 2, rank]
    if rank == 2:
        assert numbers == [1, 2, 3]
    wait_for(tmp_path / "told-2")
    if rank == 0:
        {}["missing"]
    if rank == 3:
        return
    threading.Event().wait()
