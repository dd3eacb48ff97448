"""Ranks that meet at a barrier."""

import os

from points import steps

from derail.faults import fail_point
from pytest_derail import assert_succeeded


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
