"""``derail.hold``, ``release`` and ``barrier``: ranks that stay where a test wants them, in real pytest runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugin.inner_pytest import RunPytest

pytest_plugins = ["pytester"]

PRELUDE = """
import os, signal, threading, time
import pytest
from derail import when
from derail.faults import fail_point
from pytest_derail import *

def steps(count=3):
    for step in range(count):
        print("before", step)
        fail_point("step")
        print("after", step)
    return int(os.environ["RANK"])
"""


def test_ranks_stay_at_a_point_until_they_are_let_go(run_pytest: RunPytest) -> None:
    """The test does what it wants in between, in whatever order; ranks that are not meant run on."""
    result = run_pytest(
        PRELUDE
        + """
def test_one_rank(derail):
    hold = derail.hold("step", ranks=1)
    job = derail.start(steps, ranks=2)
    assert hold.wait() == hold.came == {1}
    assert job.log(1).read_text() == "before 0\\n"
    assert job.poll() is None
    derail.release("step")
    assert job.wait().return_values == {0: 0, 1: 1}

def test_all_ranks_one_after_the_other(derail):
    hold = derail.hold("step", hit=2)
    job = derail.start(steps, ranks=2)
    assert hold.wait() == {0, 1}
    hold.release(1)
    while "after 2" not in job.log(1).read_text():
        threading.Event().wait(0.01)
    assert job.log(0).read_text().splitlines()[-1] == "before 1"
    hold.release()
    assert_succeeded(job.wait())

def test_a_context(derail):
    with derail.hold("step") as hold:
        job = derail.start(steps, ranks=2)
        hold.wait()
    assert_succeeded(job.wait())

def test_a_call_and_every_way_to_start(derail):
    for method in ("spawn", "fork", "forkserver"):
        with derail.hold(when.call(f"{__name__}:work"), ranks=0) as hold:
            job = derail.start(main, ranks=1, start_method=method)
            assert hold.wait() == {0}
        assert job.wait().return_values == {0: 7}

def work():
    return 7

def main():
    return work()

def test_killed_while_it_is_held(derail):
    hold = derail.hold("step")
    job = derail.start(steps, ranks=2)
    hold.wait()
    os.kill(job.pids()[0], signal.SIGKILL)
    outcome = job.wait()
    assert_failed(outcome, 0, signal="SIGKILL")
    assert_stopped(outcome, {1})

def test_released_before_anybody_comes(derail):
    derail.hold("step")
    derail.release()
    assert_succeeded(derail.run(steps, ranks=2))

def test_nobody_lets_it_go(derail):
    hold = derail.hold("step")
    derail.start(steps)
    hold.wait()
"""
    )
    result.assert_outcomes(passed=7)


def test_a_hold_that_holds_nobody_fails_the_test(run_pytest: RunPytest) -> None:
    """A name with a typo would make the test green for no reason."""
    result = run_pytest(
        PRELUDE
        + """
def test_typo(derail):
    derail.hold("stop")
    derail.run(steps)

def test_waits_for_a_rank_that_ends(derail):
    hold = derail.hold("step", hit=4, ranks=[1])
    derail.start(steps, ranks=2)
    hold.wait()

def test_waits_too_long(derail):
    hold = derail.hold("never")
    derail.start(["sleep", "600"], ranks=1)
    hold.wait(0.1)

def test_no_such_rank(derail):
    derail.hold("step", ranks=2)
    derail.run(steps, ranks=2)

def test_no_place_in_a_rank(derail):
    derail.hold(when.after(3))

def test_no_job(derail):
    derail.hold("step").wait()
"""
    )
    result.assert_outcomes(failed=6)
    result.stdout.fnmatch_lines(
        [
            "hold at point 'stop': no rank arrived: rank 0 returned before it arrived, rank 1 *",
            "E *GateError: hold at point 'step' (hit 4): rank 1 returned before it arrived",
            "E *TimeoutError: hold at point 'never': rank 0 did not arrive within 0.1 s",
            "E *InputError: hold at point 'step': there is no rank 2",
            "E *InputError: expected a point or an in-rank trigger (when.call, when.import_of ...), got: after 3 s",
            "E *RuntimeError: no job was started after this hold: start it first, then wait*",
        ]
    )


def test_ranks_meet_at_a_barrier(run_pytest: RunPytest) -> None:
    """None is a step ahead of the others; those that have ended are not waited for."""
    result = run_pytest(
        PRELUDE
        + """
def test_in_step(derail, tmp_path):
    derail.barrier("step")
    assert derail.run(in_step, ranks=3, args=(str(tmp_path),)).return_values == {0: 10, 1: 10, 2: 10}

def in_step(path):
    for step in range(10):
        open(f"{path}/{step}-{os.environ['RANK']}", "w").close()
        fail_point("step")
        assert len([name for name in os.listdir(path) if name.startswith(f"{step}-")]) == 3
    return 10

def test_some_end_earlier(derail):
    met = derail.barrier("step")
    assert_succeeded(derail.run(uneven, ranks=3))
    assert met.came == {0, 1, 2}

def uneven():
    steps(1 + int(os.environ["RANK"]))

def test_some_only(derail):
    met = derail.barrier("step", ranks=[0, 2])
    assert_succeeded(derail.run(steps, ranks=3))
    assert met.wait() == {0, 2}
"""
    )
    result.assert_outcomes(passed=3)
