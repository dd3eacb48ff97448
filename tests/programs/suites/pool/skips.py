"""Skipped and expected failures on reused ranks."""

import pytest
from notes import note


@pytest.mark.ranks(2, reuse="module")
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_it(rank, seen, number):
    note(seen, rank, number)
    if number == 1:
        pytest.skip("not here")
    if number == 2 and rank == 1:
        pytest.xfail("expected")


@pytest.mark.ranks(2, reuse="module")
@pytest.mark.xfail(raises=ZeroDivisionError, strict=True)
def test_marked(rank):
    1 / 0
