"""Tests of every outcome, some of which a hook swallows."""

import os
import signal

import pytest

pytestmark = pytest.mark.ranks(2)


def test_fails(rank):
    assert rank == 0


def test_dies(rank):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def test_skips():
    pytest.skip("as it is")


def test_xfails():
    pytest.xfail("as it is")


@pytest.mark.xfail(strict=True)
def test_passes_unexpectedly():
    pass


@pytest.mark.xfail(strict=True)
def test_swallowed_and_expected():
    assert False


def test_swallowed():
    assert False
