"""Breakpoints in ranks."""

import os
import pdb
import sys

import pytest


@pytest.mark.ranks(2)
@pytest.mark.parametrize("stop", ["breakpoint", "pdb.set_trace", "pytest.set_trace"])
def test_stops(rank, stop):
    value = rank + 40
    if rank == 1:
        try:
            eval(stop)()
        except Exception:
            pass


@pytest.mark.ranks(1, reuse="module")
def test_reused(rank):
    breakpoint()


@pytest.mark.ranks(1)
def test_own_debugger(rank):
    pdb.Pdb().set_trace()
    assert rank == 0


def function():
    breakpoint()


def test_job(derail):
    derail.run(function, ranks=1)
