"""Tests with Hypothesis, with and without a seed."""

import pytest
from draws import note
from hypothesis import given, seed, settings
from hypothesis import strategies as st


@pytest.mark.ranks(2)
@given(number=st.integers())
def test_free(out, number):
    note(out, "free", number)


@pytest.mark.ranks(2)
@settings(derandomize=True)
@given(number=st.integers())
def test_derandomized(out, number):
    note(out, "derandomized", number)


@pytest.mark.ranks(2)
@seed(3)
@given(number=st.integers())
def test_seeded(out, number):
    note(out, "seeded", number)
