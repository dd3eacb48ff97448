"""Wrong clocks in a rank, compared with the clock of the test."""

import json
import time

import pytest

from derail import faults, when
from derail.faults.mechanisms import namespaces
from derail.model.input_error import InputError
from faults.real_job import DEADLINE, HEALED, ended, output_of, result_of, running, told
from program_files import program_text

WALL = """
import datetime, json
clocks = [
    time.time, lambda: time.time_ns() / 1e9, lambda: time.clock_gettime(time.CLOCK_REALTIME),
    lambda: datetime.datetime.now(datetime.timezone.utc).timestamp(), lambda: datetime.datetime.now().timestamp(),
    lambda: time.mktime(time.localtime()),
]
def look():
    print(json.dumps([(time.monotonic(), clock(), time.monotonic()) for clock in clocks]), flush=True)
"""
"""Each of a rank's clocks, between two looks at the monotonic one."""
LOOKS = WALL + "look()\ntime.sleep({pause})\nlook()\n"
SLACK = 1.5
"""Seconds for clocks that count whole ones, and some for one that is set while we look."""


def right_at(monotonic):
    """Return the time of a correct clock at that moment."""
    took = 1.0
    while took > 0.1:  # else somebody held us up between the two
        began = time.monotonic()
        ahead = time.time() - began  # noqa: TID251 - it is the clock that is looked at
        took = time.monotonic() - began
    return monotonic + ahead


def is_wrong_by(seconds, look):
    """Return whether a clock that was read between two moments was wrong by a number of seconds."""
    before, clock, after = look
    return right_at(before) - SLACK <= clock - seconds <= right_at(after) + SLACK


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [(faults.clock_offset(3600, rank=0), 3600), (faults.clock_offset(-7200.5, rank=0), -7200.5),
     (faults.clock_step_back(600, rank=0), -600)],
)  # fmt: skip
def test_every_function_for_the_date_is_wrong_by_the_offset(tmp_path, fault, seconds):
    """time, datetime and the broken-down times agree with each other."""
    seen, text = ended(tmp_path, LOOKS.format(pause=0), fault)

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    for line in text.splitlines():
        looks = json.loads(line)
        assert [is_wrong_by(seconds, look) for look in looks] == [True] * 6, looks


def test_a_drifting_clock_runs_too_fast(tmp_path):
    """Three per real second."""
    seen, text = ended(tmp_path, LOOKS.format(pause=1.0), faults.clock_drift(3.0, rank=0))
    (before, first, after), (before_second, second, after_second) = (json.loads(line)[0] for line in text.splitlines())
    counted = (second - first) / 3

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert 0.99 * (before_second - after) <= counted <= 1.01 * (after_second - before)


def test_a_frozen_clock_stops_and_then_is_correct_again(tmp_path):
    """The monotonic clock keeps running."""
    again = f"while '{HEALED}' not in open('work/journal.jsonl').read():\n    time.time(), time.sleep(0.01)\nlook()\n"
    program = f"{WALL}look()\ntime.sleep(0.5)\nlook()\n{again}"
    seen, text = ended(tmp_path, program, faults.clock_freeze(rank=0, for_=4.0), cwd=tmp_path)
    first, second, last = (json.loads(line)[0] for line in text.splitlines())

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert first[1] == second[1]
    assert second[0] - first[2] >= 0.5
    assert is_wrong_by(0, last)


def test_a_clock_steps_back_in_the_middle_of_a_measurement(tmp_path):
    """A duration measured with it is negative."""
    program = """
import json
from derail.faults import fail_point
began, before = time.time(), time.monotonic()
fail_point("inside")
took = time.time() - began
print(json.dumps([took, time.monotonic() - before]), flush=True)
"""
    seen, text = ended(tmp_path, program, faults.clock_step_back(30, rank=0, when=when.point("inside")))

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    took, really = told(text)
    assert -30 - SLACK <= took <= -30 + really + SLACK


def test_values_of_datetime_remain_compatible(tmp_path):
    """Old and new ones are comparable, instances of each other's type, and picklable."""
    program = program_text("faults/dates_before_and_after")
    seen, text = ended(tmp_path, program, faults.clock_offset(60, rank=0, when=when.point("now")))

    assert [result.status for result in seen.faults] == ["injected"], seen.faults
    assert told(text) == [True, True, False, True, True, True, True, True]


def test_two_faults_of_a_clock_add_up(tmp_path):
    """The second one changes the result of the first; from outside their shares are indistinguishable."""
    given = [faults.clock_offset(1000, rank=0), faults.clock_offset(-4000, rank=0)]
    _, text = ended(tmp_path, LOOKS.format(pause=0.5), *given)

    assert is_wrong_by(-3000, json.loads(text.splitlines()[-1])[0])


def test_the_other_ranks_keep_their_clocks(tmp_path):
    """The ranks of the job disagree about the date."""
    with running(tmp_path, LOOKS.format(pause=0), faults.clock_offset(5000, rank=1), ranks=2) as job:
        job.wait(DEADLINE)
        first, second = (json.loads(job.log(rank, "stdout").read_text().splitlines()[0])[0] for rank in (0, 1))

    assert (is_wrong_by(0, first), is_wrong_by(5000, second)) == (True, True)


def test_an_offset_too_small_to_be_seen_is_no_injection(tmp_path):
    """A microsecond is within the noise of two readings."""
    seen, _ = ended(tmp_path, LOOKS.format(pause=0), faults.clock_offset(1e-6, rank=0))

    assert [result.status for result in seen.faults] == ["errored"], seen.faults


def test_a_program_that_is_no_python_has_the_correct_clock(tmp_path):
    """It has no runtime that could change it."""
    seen, _ = ended(tmp_path, ["/bin/date"], faults.clock_offset(3600, rank=0))

    assert [result.status for result in seen.faults] == ["unavailable"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: faults.clock_offset(0, rank=0),
        lambda: faults.clock_drift(1, rank=0),
        lambda: faults.clock_step_back(0, rank=0),
        lambda: faults.monotonic_offset(0, rank=0),
    ],
)
def test_a_clock_that_stays_correct_is_refused(make):
    """At the creation of the fault."""
    with pytest.raises(InputError, match="change"):
        make()


TIME = pytest.mark.skipif(bool(namespaces.why_not("time")), reason=namespaces.why_not("time"))


@TIME
@pytest.mark.parametrize("seconds", [86400.5, -1.25])
def test_the_monotonic_clock_of_a_rank_is_shifted(tmp_path, seconds):
    """The rank reads it with the offset; its wall clock stays correct."""
    program = "print(time.monotonic(), time.time(), time.monotonic(), flush=True)\ntime.sleep(60)"
    began = time.monotonic()
    with running(tmp_path, program, faults.monotonic_offset(seconds, rank=0)) as job:
        before, wall, after = map(float, output_of(job).split())
        assert right_at(began) - 1 <= wall <= right_at(time.monotonic()) + 1
        assert right_at(before - seconds) - 1 <= wall <= right_at(after - seconds) + 1
        assert result_of(job) == "injected"


@TIME
def test_an_offset_before_the_boot_is_no_injection(tmp_path):
    """The kernel refuses clocks below zero; the rank does not start without it."""
    seen, text = ended(tmp_path, "print('ran')", faults.monotonic_offset(-1e9, rank=0))

    assert [result.status for result in seen.faults] == ["errored"], seen.faults
    assert (text, str(seen.ranks[0].status)) == ("", "exit 125")
