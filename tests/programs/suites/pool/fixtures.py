"""Fixtures of wide scopes in reused ranks."""

import os

import pytest
from notes import note

numbers = []


@pytest.fixture(scope="module")
def in_rank():
    numbers.append("set up")
    file = open(os.devnull)
    yield numbers
    print("torn down")


@pytest.fixture(scope="module", params=["a", "b"])
def letter(request):
    return request.param


def setup_module():
    numbers.append("module")


@pytest.mark.ranks(2, reuse="module", in_ranks=["in_rank"])
@pytest.mark.parametrize("number", [1, 2])
def test_it(rank, seen, number, letter, in_rank, tmp_path, request):
    note(seen, rank, f"{number}{letter}")
    assert in_rank == ["module", "set up"]
    assert request.node.name == f"test_it[{letter}-{number}]"
    assert tmp_path.name.startswith(f"test_it_{letter}_{number}_")
