"""Faults by marker, on ranks and in jobs."""

import threading

import pytest

from derail import faults, when
from pytest_derail import assert_failed


@pytest.mark.ranks(2)
@pytest.mark.faults("plan.toml")
def test_killed(rank):
    print("go")
    threading.Event().wait()


@pytest.mark.ranks(2)
@pytest.mark.faults(faults.signal("SIGKILL", rank=0, when=when.line("never")))
def test_not_reached(rank):
    pass


@pytest.mark.faults("plan.toml")
def test_fixture(derail):
    assert_failed(derail.run(["sh", "-c", "echo go; sleep 600"]), 1, signal="KILL")


@pytest.mark.faults("plan.toml")
def test_fixture_unseen(derail):
    derail.run(["sh", "-c", "echo go; sleep 600"])


@pytest.mark.faults("plan.toml")
def test_own_faults_come_first(derail):
    kill = faults.signal("SIGKILL", rank=0, when=when.line("go"))
    assert_failed(derail.run(["sh", "-c", "echo go; sleep 600"], faults=[kill]), 0, signal="KILL")
