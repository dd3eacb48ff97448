"""Ranks that interrupt or end the session."""

import pytest


@pytest.mark.ranks(2)
def test_interrupt(rank):
    if rank == 1:
        raise KeyboardInterrupt("mine")


@pytest.mark.ranks(2)
def test_exit(rank):
    pytest.exit("that is enough", returncode=7)


def test_never():
    pass
