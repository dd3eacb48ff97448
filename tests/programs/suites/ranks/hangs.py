"""Tests in which one rank does not call what the others wait in."""

import threading

import pytest

import derail


def exchange(partner):
    with derail.record_collective("exchange", group="halo", shapes="float32[8]"):
        if partner is None:
            threading.Event().wait()


def evaluate():
    threading.Event().wait()


@pytest.mark.ranks(3, timeout=2)
def test_one_goes_elsewhere(rank):
    for _ in range(5):
        exchange(0)
    if rank == 1:
        evaluate()
    exchange(None)


@pytest.mark.ranks(3, timeout=2, reuse="module")
def test_one_is_done(rank):
    for _ in range(5):
        exchange(0)
    if rank != 2:
        exchange(None)


def run_as_job():
    import os

    test_one_goes_elsewhere(int(os.environ["RANK"]))


def test_job_hangs(derail):
    result = derail.run(run_as_job, ranks=3, timeout=2)
    assert result.hang.ranks == (1,)
    assert not result.timed_out
