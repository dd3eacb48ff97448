"""Sync points, tested without ranks; tests with real ranks are in tests/plugin."""

from __future__ import annotations

import threading

import pytest

from derail import when
from derail.faults.engine.sync_points import Gate, GateError, Gates
from derail.faults.engine.trigger_matcher import Reached
from derail.model.input_error import InputError


def aimed(at="step", ranks=(0, 1, 2), **more):
    """Return a sync point of a job with three ranks."""
    gate = Gate("g", at, **more)
    gate.aim(ranks)
    return gate


def test_a_rank_waits_until_it_is_released():
    """One rank or all are released, and a released rank does not wait there again."""
    gate = aimed()
    gate.arrive(0)
    gate.arrive(1)
    assert (gate.keeps(0), gate.keeps(1)) == (True, True)
    gate.release([1])
    assert (gate.keeps(0), gate.keeps(1)) == (True, False)
    gate.arrive(1)
    assert not gate.keeps(1)
    gate.release()
    gate.arrive(2)
    assert (gate.keeps(0), gate.keeps(2)) == (False, False)
    assert gate.came == {0, 1, 2}


def test_a_rank_released_before_its_arrival_does_not_wait():
    """Even if the ranks of the job were unknown at the release."""
    gate = Gate("g", "step")
    gate.release()
    gate.aim([0, 1])
    gate.arrive(0)
    assert not gate.keeps(0)


def test_ranks_at_a_barrier_continue_when_all_have_arrived():
    """At each arrival; ranks that have ended are not waited for."""
    gate = aimed(together=True)
    for rank in (0, 1):
        gate.arrive(rank)
    assert gate.keeps(0)
    gate.arrive(2)
    assert not any(gate.keeps(rank) for rank in range(3))
    gate.arrive(1)
    assert gate.keeps(1)
    gate.end(0, "returned")
    assert gate.keeps(1)
    gate.end(2, "returned")
    assert not gate.keeps(1)


def test_wait_returns_when_all_have_arrived():
    """Ranks that have already continued count as well."""
    gate = aimed(ranks=(0, 1))
    gate.arrive(0)
    told = threading.Timer(0.01, gate.arrive, [1])
    told.start()
    assert gate.wait(60) == {0, 1}
    told.join()
    gate.release()
    gate.end(0, "ended with exit 0")
    assert gate.wait(0) == {0, 1}


def test_waiting_for_a_rank_that_cannot_arrive_is_an_error():
    """The error has the ranks and the reasons; a timeout is an error as well."""
    gate = aimed(ranks=(0, 1))
    with pytest.raises(TimeoutError, match=r"'step'.*rank 0.*rank 1"):
        gate.wait(0)
    gate.arrive(0)
    gate.end(1, "ended with exit 3")
    with pytest.raises(GateError, match=r"'step'.*rank 1.*exit 3"):
        gate.wait(60)
    unused = Gate("g", "step")
    unused.finish()
    with pytest.raises(GateError, match="no job was started"):
        unused.wait(60)


def test_only_in_rank_triggers_can_hold_a_rank():
    """A rank that the job does not have is refused as well."""
    with pytest.raises(InputError, match="after 3 s"):
        Gate("g", when.after(3))
    with pytest.raises(InputError, match=r"'step'.*3, 4"):
        Gate("g", "step", ranks=[3, 4, 0], together=True).aim([0, 1])


def test_ranks_get_only_their_own_sync_points():
    """A sync point is identified by its name."""
    gates = Gates([Gate("a", "step", ranks=[1]), Gate("b", when.call("m:f", hit=3))])
    gates.aim([0, 1])
    assert [[told["fault"] for told in gates.watches(rank)] for rank in (0, 1)] == [["b"], ["a", "b"]]
    assert gates.watches(0)[0].items() >= {"kind": "call", "name": "m:f", "hits": [[3, 3, 1]]}.items()
    reached = Reached(1, "a", 0, 1)
    gates.arrive(reached)
    assert (gates.keep(reached), gates.again(reached)) == (True, True)
    assert (gates.keep(Reached(1, "c", 0, 1)), gates.again(Reached(1, "c", 0, 1))) == (False, False)
    assert (bool(gates), bool(Gates([]))) == (True, False)
