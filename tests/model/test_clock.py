"""The source of time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.model.clock import SYSTEM_CLOCK, FakeClock


def test_the_system_clock_is_monotonic():
    """``now`` is CLOCK_MONOTONIC."""
    before = time.monotonic()
    now = SYSTEM_CLOCK.now()
    after = time.monotonic()

    assert before <= now <= after


def test_the_systems_wall_clock_counts_from_the_epoch():
    """``wall`` is CLOCK_REALTIME."""
    before = time.clock_gettime(time.CLOCK_REALTIME)
    wall = SYSTEM_CLOCK.wall()
    after = time.clock_gettime(time.CLOCK_REALTIME)

    assert before - 1 <= wall <= after + 1


def test_a_fake_clock_stands_still_until_it_is_moved():
    """A fake clock moves only by ``advance``, and its wall clock together with it."""
    clock = FakeClock(now=5.0, wall=1000.0)
    first = (clock.now(), clock.wall(), clock.now(), clock.wall())
    clock.advance(2.5)

    assert first == (5.0, 1005.0, 5.0, 1005.0)
    assert (clock.now(), clock.wall()) == (7.5, 1007.5)


def test_a_fake_clock_does_not_go_back():
    """A monotonic clock refuses a negative step, and does not move."""
    clock = FakeClock()
    with pytest.raises(ValueError, match=r"cannot move by -1 s; advance by 0 or more"):
        clock.advance(-1)

    assert clock.now() == 0.0


@given(st.lists(st.floats(0, 1e6)))
def test_a_fake_clock_never_goes_back(steps):
    """Whatever steps it takes, ``now`` does not decrease."""
    clock = FakeClock()
    seen = [clock.now()]
    for step in steps:
        clock.advance(step)
        seen.append(clock.now())

    assert seen == sorted(seen)
