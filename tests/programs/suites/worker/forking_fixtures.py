"""A fixture that forks."""

import os

import pytest
from children import exit_status

pids = []


@pytest.fixture
def forks():
    pids.append(os.fork())
    yield pids[-1]
    code = exit_status(pids[-1])
    pid = os.fork()
    assert pid, "second child"
    assert (code, exit_status(pid)) == (0, 1)


@pytest.mark.ranks(1)
def test_it(rank, forks):
    assert forks > 0
    print("body of", rank)
