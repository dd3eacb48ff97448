"""Functions as ranks, by each start method."""

import os

import pytest

from derail import faults
from pytest_derail import assert_failed


def who():
    return int(os.environ["RANK"])


@pytest.mark.parametrize("method", ["warm", "spawn", "fork", "forkserver"])
def test_returns(derail, method):
    assert derail.run(who, start_method=method).return_values == {0: 0, 1: 1}


@pytest.mark.parametrize("method", ["warm", "spawn", "fork", "forkserver"])
def test_raises(derail, method):
    outcome = derail.run(who, start_method=method, faults=[faults.exception("ValueError", rank=1)])
    assert_failed(outcome, 1, exception=ValueError)


def test_lambda(derail):
    assert derail.run(lambda: 3, ranks=1, start_method="fork").return_values == {0: 3}
