"""Tests on ranks that are reused in a module, in the session, and not."""

import pytest
from notes import note


@pytest.mark.ranks([1, 2], reuse="module")
@pytest.mark.parametrize("number", [1, 2])
def test_module(rank, world_size, seen, number):
    note(seen, rank, f"module_{world_size}_{number}")


@pytest.mark.ranks(2, reuse="session")
def test_session(rank, seen, from_conftest):
    note(seen, rank, "session")
    assert from_conftest == "conftest"


@pytest.mark.ranks(2)
def test_alone(rank, seen):
    note(seen, rank, "alone")
