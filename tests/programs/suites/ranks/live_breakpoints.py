"""Breakpoints in ranks that a user answers at a terminal."""

import os
import threading

import pytest

TIMEOUT = 30


def meet(path, rank):
    """Wait for the other one of two ranks."""
    mine, theirs = (path / str(number) for number in (rank, 1 - rank))
    for fifo in (mine, theirs):
        try:
            os.mkfifo(fifo)
        except FileExistsError:
            pass
    with open(mine, "rb+", buffering=0) as here, open(theirs, "rb+", buffering=0) as there:
        there.write(b"x")
        here.read(1)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.mark.ranks(2, timeout=TIMEOUT)
@pytest.mark.parametrize("stop", ["breakpoint", "pdb.set_trace", "pytest.set_trace", "pdb.Pdb().set_trace"])
def test_one(rank, stop, place):
    import pdb

    meet(place, rank)  # the time of the test has begun
    value = rank + 40
    if rank == 1:
        eval(stop)()
        value += 1
    meet(place, rank)
    print("value", value)


@pytest.mark.ranks(2, timeout=TIMEOUT)
def test_both(rank, place):
    breakpoint()
    meet(place, rank)
    assert rank < 2


@pytest.mark.ranks(2, reuse="module")
@pytest.mark.parametrize("number", [1, 2])
def test_reused(rank, number):
    if rank == 0:
        breakpoint()
    assert number


@pytest.fixture(scope="module")
def kept():
    breakpoint()
    yield 8
    breakpoint()
    print("torn down")


@pytest.mark.ranks(1, reuse="module", in_ranks=["kept"])
def test_kept_fixture(kept):
    assert kept == 8


@pytest.mark.ranks(2)
def test_fails_beside(rank):
    value = rank + 50
    if rank == 0:
        breakpoint()
    assert value == 50


@pytest.mark.ranks(2)
def test_thread(rank):
    if rank == 1:
        thread = threading.Thread(target=breakpoint)
        thread.start()
        thread.join()


@pytest.mark.ranks(2)
def test_torch(process_group, rank):
    import torch.distributed

    value = rank + 60
    torch.distributed.breakpoint(1)
    value += 1
    torch.distributed.barrier()
    assert value


def test_plain():
    assert True
