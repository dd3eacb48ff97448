"""Errors in ranks, in fixtures, and in calls of derail."""

import pytest

from derail import faults


def raises():
    raise ValueError("of the function")


def returns():
    pass


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_function(derail, method):
    derail.run(raises, ranks=1, start_method=method)


def test_no_file(derail):
    derail.run("no_such_program.py")


def test_wrong_rank(derail):
    derail.run(returns, ranks=1, faults=[faults.exit(1, rank=7)])


def test_not_reached(derail):
    hold = derail.hold("never")
    derail.start(returns, ranks=1)
    hold.wait(30)


def test_no_script(derail):
    derail.agent(["python", "{script}"], "no_such_program.py")


@pytest.mark.ranks(1)
def test_set_up(broken):
    pass


@pytest.mark.ranks(1)
def test_tear_down(broken_later):
    pass


@pytest.mark.ranks(1, reuse="module", in_ranks=["broken_at_last"])
def test_last_tear_down(broken_at_last):
    pass
