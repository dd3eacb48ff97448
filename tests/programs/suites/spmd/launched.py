"""Tests on ranks that another launcher has placed."""

import os
import threading
from pathlib import Path

import pytest

RANK = int(os.environ["RANK"])


@pytest.fixture(scope="session", autouse=True)
def world():
    with Path(os.environ["SEEN"], f"world-{RANK}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return int(os.environ["WORLD_SIZE"])


def test_first(world, record_property):
    print(f"rank {RANK} was here")
    record_property("own", RANK)
    assert (world, os.environ["MASTER_ADDR"]) == (3, "127.0.0.1")
    assert int(os.environ["MASTER_PORT"]) > 0


def test_fails():
    print(f"rank {RANK} fails")
    assert RANK != 1, "no rank 1"


def test_dies():
    if RANK == 2:
        os.kill(os.getpid(), 9)
    threading.Event().wait()


def test_after():
    pass


def test_hangs():
    if RANK == 0:
        threading.Event().wait()
