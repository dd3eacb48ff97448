"""Sync points, tested without ranks; tests with real ranks are in tests/plugin."""

from __future__ import annotations

import threading

import pytest

from derail import when
from derail.faults.engine.sync_points import SyncPoint, SyncPointError, SyncPoints
from derail.faults.engine.trigger_matcher import Reached
from derail.model.input_error import InputError


def aimed(at="step", ranks=(0, 1, 2), **more):
    """Return a sync point of a job with three ranks."""
    sync_point = SyncPoint("g", at, **more)
    sync_point.aim(ranks)
    return sync_point


def test_a_rank_waits_until_it_is_released():
    """One rank or all are released, and a released rank does not wait there again."""
    sync_point = aimed()
    sync_point.arrive(0)
    sync_point.arrive(1)
    assert (sync_point.keeps(0), sync_point.keeps(1)) == (True, True)
    sync_point.release([1])
    assert (sync_point.keeps(0), sync_point.keeps(1)) == (True, False)
    sync_point.arrive(1)
    assert not sync_point.keeps(1)
    sync_point.release()
    sync_point.arrive(2)
    assert (sync_point.keeps(0), sync_point.keeps(2)) == (False, False)
    assert sync_point.came == {0, 1, 2}


def test_a_rank_released_before_its_arrival_does_not_wait():
    """Even if the ranks of the job were unknown at the release."""
    sync_point = SyncPoint("g", "step")
    sync_point.release()
    sync_point.aim([0, 1])
    sync_point.arrive(0)
    assert not sync_point.keeps(0)


def test_ranks_at_a_barrier_continue_when_all_have_arrived():
    """At each arrival; ranks that have ended are not waited for."""
    sync_point = aimed(together=True)
    for rank in (0, 1):
        sync_point.arrive(rank)
    assert sync_point.keeps(0)
    sync_point.arrive(2)
    assert not any(sync_point.keeps(rank) for rank in range(3))
    sync_point.arrive(1)
    assert sync_point.keeps(1)
    sync_point.end(0, "returned")
    assert sync_point.keeps(1)
    sync_point.end(2, "returned")
    assert not sync_point.keeps(1)


def test_wait_returns_when_all_have_arrived():
    """Ranks that have already continued count as well."""
    sync_point = aimed(ranks=(0, 1))
    sync_point.arrive(0)
    told = threading.Timer(0.01, sync_point.arrive, [1])
    told.start()
    assert sync_point.wait(60) == {0, 1}
    told.join()
    sync_point.release()
    sync_point.end(0, "ended with exit 0")
    assert sync_point.wait(0) == {0, 1}


def test_waiting_for_a_rank_that_cannot_arrive_is_an_error():
    """The error has the ranks and the reasons; a timeout is an error as well."""
    sync_point = aimed(ranks=(0, 1))
    with pytest.raises(TimeoutError, match=r"'step'.*rank 0.*rank 1"):
        sync_point.wait(0)
    sync_point.arrive(0)
    sync_point.end(1, "ended with exit 3")
    with pytest.raises(SyncPointError, match=r"'step'.*rank 1.*exit 3"):
        sync_point.wait(60)
    unused = SyncPoint("g", "step")
    unused.finish()
    with pytest.raises(SyncPointError, match="no job was started"):
        unused.wait(60)


def test_only_in_rank_triggers_can_hold_a_rank():
    """A rank that the job does not have is refused as well."""
    with pytest.raises(InputError, match="after 3 s"):
        SyncPoint("g", when.after(3))
    with pytest.raises(InputError, match=r"'step'.*3, 4"):
        SyncPoint("g", "step", ranks=[3, 4, 0], together=True).aim([0, 1])


def test_ranks_get_only_their_own_sync_points():
    """A sync point is identified by its name."""
    sync_points = SyncPoints([SyncPoint("a", "step", ranks=[1]), SyncPoint("b", when.call("m:f", hit=3))])
    sync_points.aim([0, 1])
    assert [[told["fault"] for told in sync_points.watches(rank)] for rank in (0, 1)] == [["b"], ["a", "b"]]
    assert sync_points.watches(0)[0].items() >= {"kind": "call", "name": "m:f", "hits": [[3, 3, 1]]}.items()
    reached = Reached(1, "a", 0, 1)
    sync_points.arrive(reached)
    assert (sync_points.keep(reached), sync_points.again(reached)) == (True, True)
    assert (sync_points.keep(Reached(1, "c", 0, 1)), sync_points.again(Reached(1, "c", 0, 1))) == (False, False)
    assert (bool(sync_points), bool(SyncPoints([]))) == (True, False)
