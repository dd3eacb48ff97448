"""A test on ranks that a user debugs in an IDE."""

import threading

import pytest


@pytest.mark.ranks(2, timeout=5, reuse="module")
def test_passes(rank):
    value = rank + 40
    value += 1  # stop here
    assert value == rank + 41


@pytest.mark.ranks(2, timeout=5)
def test_fails(rank):
    if rank == 0:
        threading.Event().wait()
    value = 7
    assert value == 8  # stop here
