"""Ranks that are held at a point, and released in each way."""

import os
import signal
import threading

from points import steps

from derail import when
from pytest_derail import assert_failed, assert_stopped, assert_succeeded


def test_one_rank(derail):
    hold = derail.hold("step", ranks=1)
    job = derail.start(steps, ranks=2)
    assert hold.wait() == hold.came == {1}
    assert job.log(1).read_text() == "before 0\n"
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
