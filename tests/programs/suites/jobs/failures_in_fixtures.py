"""A fixture whose job fails, with and without a look at it."""

import pytest
from steps import FAIL

from pytest_derail import assert_failed


@pytest.fixture
def looked_at(derail):
    job = derail.start(FAIL)
    yield job
    assert_failed(job.wait(), 1)


@pytest.fixture
def forgotten(derail):
    return derail.start(FAIL).wait()


def test_looked_at(looked_at):
    pass


def test_forgotten(forgotten):
    pass
