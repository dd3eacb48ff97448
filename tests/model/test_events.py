"""The events of a job, as values."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from derail.model import events
from derail.model.exit import ExitStatus
from derail.model.outcome import JobOutcome

EVENTS = [
    events.Started(rank=0, pid=1, at=1.0),
    events.LineSeen(rank=0, stream="stdout", text="x", at=1.0),
    events.ValueReceived(rank=0, at=1.0),
    events.ErrorRecorded(rank=0, message="ValueError: x", at=1.0),
    events.Exited(rank=0, pid=1, status=ExitStatus(code=0), at=1.0),
    events.StopRequested(reason="why", signal=15, grace=1.0, at=1.0),
    events.DeadlinePassed(name="grace", at=1.0),
    events.SignalSent(rank=0, signal=15, at=1.0),
    events.PhaseChanged(phase="running", at=1.0),
    events.Restarted(number=1, restarts=2, at=1.0),
    events.Finished(outcome=JobOutcome(ranks={}, root_cause=None, started_at=0.0, ended_at=1.0), at=1.0),
]


def test_the_list_above_is_complete():
    """Each kind of event is tested below."""
    assert {type(event) for event in EVENTS} == set(typing.get_args(events.Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_frozen_slotted_and_has_a_time(event):
    """An event is a value with a time; observers cannot change it for one another."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.at = 2.0

    assert (event.at, hasattr(event, "__dict__")) == (1.0, False)


def test_a_phase_names_a_rank_only_while_that_rank_is_started():
    """A phase belongs to the whole job otherwise."""
    assert events.PhaseChanged(phase="running", at=1.0).rank is None
