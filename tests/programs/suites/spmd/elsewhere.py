"""Tests that do not run on the ranks of the suite."""

import os

import pytest

RANK = int(os.environ["RANK"])


def print_rank():
    """Print the environment.

    >>> "RANK" in os.environ
    False
    """
    print(os.environ["RANK"])


@pytest.mark.ranks(2)
def test_on_two(world_size):
    assert world_size == 2


@pytest.mark.ranks(0)
def test_off_by_number():
    assert "RANK" not in os.environ


@pytest.mark.no_ranks
def test_off_by_name():
    assert "RANK" not in os.environ


def test_starts_a_job(derail):
    assert derail.run(print_rank, ranks=1).exit_code == 0


def test_on_three():
    assert os.environ["WORLD_SIZE"] == "3"
