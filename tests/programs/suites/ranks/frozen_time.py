"""Tests on ranks, and a job, while the time is frozen."""

import time

import freezegun
import pytest
import time_machine

from pytest_derail import assert_timed_out

TOOL = "freezegun"


def freeze():
    if TOOL == "freezegun":
        return freezegun.freeze_time("2001-02-03")
    return time_machine.travel("2001-02-03", tick=False)


def year():
    return time.gmtime().tm_year


@pytest.fixture(autouse=True)
def frozen():
    with freeze():
        yield


@pytest.fixture(scope="module", autouse=True)
def frozen_in_the_controller():
    with freeze():
        yield


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver", "warm"])
def test_passes(method, request):
    assert year() == 2001


test_passes_on_ranks = pytest.mark.ranks(2)(test_passes)


@pytest.mark.ranks(2, start_method="warm")
def test_warm(rank):
    assert year() == 2001


@pytest.mark.ranks(2, timeout=1, start_method="fork")
def test_hangs(rank):
    if rank:
        while True:
            time.sleep(60)


def test_job(derail):
    seen = derail.run("/bin/sleep", args=["600"], ranks=1, timeout=0.3)
    assert_timed_out(seen)
