"""Recovery from the first fault, measured from a journal: every value is known, or None."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derail.scenario.recovery import MEASURES, Recovery, read_run, recoveries, recovery

KILLED, STOPPED = "SIGKILL (9)", "SIGTERM (15)"


def record(event, at, rank=None, **more):
    """Return a record of a launcher's event."""
    return {"event": event, "at": at + 0.0001, "seen_at": at, "rank": rank, **more}


PLAN = record("plan", 0.0)
BEGIN = [PLAN, record("phase", 0.0, phase="starting"), record("started", 0.1, 0), record("started", 0.2, 1)]
STEPS = [record("step", 0.5, 0, step=1), record("step", 0.6, 1, step=1)]
FAULT = record("start", 2.0, 1, fault="signal")
DEATH = [record("last_step", 1.9, 1, step=8, reached=8), record("exited", 2.125, 1, status=KILLED)]
STOP = [record("signal_sent", 2.25, 0, signal=15), record("last_step", 2.2, 0, step=9, reached=9)]
STOP += [record("exited", 2.5, 0, status=STOPPED)]
AGAIN = [record("restarted", 2.6, number=1), record("started", 3.0, 0), record("started", 3.0, 1)]
STEPS_AGAIN = [record("step", 4.0, 0, step=6), record("step", 4.5, 1, step=6)]
END = [record("exited", 9.0, 0, status="exit 0"), record("exited", 9.0, 1, status="exit 0"), record("finished", 9.5)]
FULL = [*BEGIN, *STEPS, FAULT, *DEATH, *STOP, *AGAIN, *STEPS_AGAIN, *END]
MEASURED = Recovery(notice=0.25, stop=0.5, recover=2.0, lost_steps=3, failed=True, stepped=True)


def measured(*records):
    """Return the recovery that these records show."""
    return recovery(read_run(records))


def test_a_restart_is_measured_from_the_fault():
    """Steps 6, 7 and 8 are run again: 8 was the last one of all ranks when the rank died."""
    assert measured(*FULL) == MEASURED
    assert str(MEASURED) == "noticed after 0.250 s, stopped after 0.500 s, ran again after 2.00 s, 3 steps lost"


def test_the_order_of_the_records_does_not_matter():
    """Several processes append to a journal; only times count. The last run counts if there are several."""
    assert measured(PLAN, *reversed(FULL[1:])) == MEASURED
    assert measured(*FULL[:8], *FULL) == MEASURED


@pytest.mark.parametrize(
    ("left_out", "unknown"),
    [
        ([FAULT], Recovery()),
        (STEPS, replace(MEASURED, stepped=False)),
        (DEATH[:1], replace(MEASURED, lost_steps=None)),
        (STEPS_AGAIN, replace(MEASURED, recover=None, lost_steps=None)),
        ([*AGAIN, *STEPS_AGAIN], replace(MEASURED, recover=None, lost_steps=None)),
        ([*AGAIN, *STEPS_AGAIN, STOP[0]], replace(MEASURED, notice=7.5, recover=None, lost_steps=None)),
        ([*AGAIN, *STEPS_AGAIN, STOP[2], END[0]], replace(MEASURED, stop=None, recover=None, lost_steps=None)),
    ],
    ids=["no fault", "no step before", "no last step", "no step after", "no restart", "no signal", "no end"],
)
def test_what_a_journal_does_not_show_is_none(left_out, unknown):
    """Without a signal or a restart, the end of the launcher is its first reaction."""
    assert measured(*(each for each in FULL if each not in left_out)) == unknown


def test_a_job_that_is_ended_from_outside_did_not_react():
    """Neither a stop request nor a timeout of derail is a reaction of the launcher, and the exits after it are none."""
    cut = [*BEGIN, *STEPS, FAULT, *DEATH]
    request = [record("stop_requested", 5.0), record("signal_sent", 5.1, 0, signal=15)]
    ended = record("exited", 5.2, 0, status=STOPPED)
    nothing = Recovery(failed=True, stepped=True)

    assert measured(*cut, *request, ended, record("finished", 5.3)) == nothing
    assert measured(*cut, record("finished", 5.0, timed_out=True), ended) == nothing
    assert measured(*cut, ended, record("finished", 5.3)) == replace(nothing, notice=3.3, stop=3.2)


def test_a_rank_that_hangs_until_the_launcher_ends_it_counts():
    """No rank failed by itself: the first one that was signalled has the fault."""
    ends = [record("signal_sent", 7.0, 1, signal=9), record("exited", 7.25, 1, status=KILLED)]
    ends += [record("signal_sent", 7.1, 0, signal=15), record("exited", 7.5, 0, status=STOPPED)]

    assert measured(*BEGIN, *STEPS, FAULT, *ends, record("finished", 8.0)) == Recovery(
        notice=5.0, stop=5.5, failed=True, stepped=True
    )


def test_a_harmless_fault_on_another_rank_is_not_the_one():
    """The last fault on the rank that failed counts; one on a peer only if there is none."""
    harmless = [record("start", 1.0, 0, fault="clock_jump"), record("start", 1.5, 1, fault="cpu_limit")]
    assert measured(*FULL, *harmless) == MEASURED

    of_a_peer = [each for each in FULL if each is not FAULT]
    assert measured(*of_a_peer, record("start", 2.0, 0, fault="connection_reset")) == MEASURED


def test_each_attempt_with_a_fault_has_a_recovery():
    """A fault of one attempt does not count for the next one."""
    second = [record("start", 5.0, 0, fault="exit"), record("exited", 5.5, 0, status="exit 3")]
    third = [record("signal_sent", 5.75, 1, signal=15), record("exited", 6.0, 1, status=STOPPED)]
    third += [record("started", 6.5, 0), record("started", 6.5, 1), record("step", 7.0, 1, step=1)]
    run = read_run([*FULL[: -len(END)], *second, *third, record("finished", 8.0)])

    assert [(each.notice, each.stop, each.recover) for each in recoveries(run)] == [(0.25, 0.5, 2.0), (0.75, 1.0, 2.0)]
    unhurt = read_run([*FULL[: -len(END)], second[1], *third, record("finished", 8.0)])
    assert [each.notice for each in recoveries(unhurt)] == [0.25]


times = st.floats(0.001, 50.0)


@given(
    before=times, notice=times, stop=times, pause=times, first=times, last=st.integers(0, 900), back=st.integers(0, 9)
)
def test_the_measures_are_the_times_of_the_run(before, notice, stop, pause, first, last, back):
    """Whatever they are: each interval of a synthetic run is found again."""
    fault = 1.0 + before
    noticed = fault + notice
    ended = noticed + stop
    again = ended + pause
    run = [
        *BEGIN, record("step", 1.0, 0, step=0), record("start", fault, 1, fault="x"),
        record("last_step", fault, 1, step=last, reached=last), record("exited", fault, 1, status=KILLED),
        record("signal_sent", noticed, 0, signal=15), record("exited", ended, 0, status=STOPPED),
        record("started", again, 0), record("started", again, 1),
        record("step", again + first, 1, step=last + 1 - back),
    ]  # fmt: skip
    got = measured(*run)

    assert [got.value(each) for each in MEASURES] == pytest.approx(
        [notice, notice + stop, notice + stop + pause + first, back], abs=1e-5
    )


words = st.sampled_from(["started", "exited", "step", "last_step", "start", "signal_sent", "finished", "plan", "x"])
values = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"event": words}, optional=dict.fromkeys(("at", "seen_at", "rank", "step", "reached", "status"), values)
        )
    )
)
def test_any_records_have_a_recovery(records):
    """Ranks write to journals, too: their content is never an error, and no time is negative."""
    for each in recoveries(read_run(records)):
        assert all(value is None or value >= 0 for value in map(each.value, MEASURES))
