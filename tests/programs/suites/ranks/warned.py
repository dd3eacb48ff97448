"""Warnings of fixtures and tests, in all ranks or in one."""

import warnings

import pytest

pytestmark = pytest.mark.ranks(2)


@pytest.fixture
def warning():
    warnings.warn("in the fixture")


def test_body(warning, rank, recwarn):
    class Local(FutureWarning):
        pass

    if rank == 1:
        recwarn.clear()
    warnings.warn("taken away")


def test_ranks(warning, rank):
    class Local(FutureWarning):
        pass

    if rank == 1:
        warnings.warn("in one rank", Local)
    with pytest.warns(UserWarning):
        warnings.warn("expected")


@pytest.mark.filterwarnings("ignore:ignored", "error:raised")
def test_filters():
    warnings.warn("ignored")
    with pytest.raises(UserWarning):
        warnings.warn("raised")
