"""Tests that do the same by each start method."""

import os

import pytest


@pytest.fixture(scope="session")
def shared():
    return {"pid": os.getpid()}


def check(rank, shared, tmp_path, capfd):
    os.write(1, b"direct")
    print("captured")
    assert capfd.readouterr().out == "directcaptured\n"
    assert shared["pid"] != os.getpid()
    print("out of", rank)
    numbers = [rank]
    assert numbers == [0]


@pytest.mark.ranks(2)
def test_one(rank, shared, tmp_path, capfd):
    check(rank, shared, tmp_path, capfd)


@pytest.mark.ranks(2, start_method="forkserver")
def test_marker(rank, shared, tmp_path, capfd):
    check(rank, shared, tmp_path, capfd)
