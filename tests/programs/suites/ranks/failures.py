"""Failures on ranks, of each kind."""

import os
import signal
import sys
import threading

import pytest


@pytest.mark.ranks(2)
def test_one(rank):
    value = 40 + rank
    assert rank == 0, "a message"


@pytest.mark.ranks(2)
def test_all(rank):
    check(rank)


def check(rank):
    __tracebackhide__ = True
    raise ValueError(rank)


def test_plain():
    other = 5
    assert other == 6


@pytest.mark.ranks(2)
def test_dies(rank):
    os._exit(3)


@pytest.mark.ranks(1, timeout=0.1)
def test_hangs(rank):
    threading.Event().wait()


@pytest.mark.xfail
@pytest.mark.ranks(1)
def test_known(rank):
    assert rank == 1


@pytest.mark.ranks(1)
def test_skips(rank):
    pytest.skip("not here")


@pytest.fixture
def broken(rank):
    raise OSError("no device")


@pytest.mark.ranks(1)
def test_in_set_up(broken):
    pass
