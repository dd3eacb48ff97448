"""A tear-down that takes longer than pytest-timeout lets it."""

import threading

import pytest


@pytest.mark.ranks(2)
@pytest.mark.parametrize("number", [1, 2])
def test_it(rank, number):
    pass


@pytest.fixture(scope="session")
def ends_late():
    yield
    threading.Event().wait(30)


@pytest.mark.ranks(2)
def test_tear_down(rank, ends_late):
    pass
