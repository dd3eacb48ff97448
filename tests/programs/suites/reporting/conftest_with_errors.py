"""Fixtures that fail."""

import pytest


@pytest.fixture
def broken():
    raise OSError("in the set-up")


@pytest.fixture
def broken_later():
    yield
    raise OSError("in the tear-down")


@pytest.fixture(scope="module")
def broken_at_last():
    yield
    raise OSError("in the last tear-down")
