"""A module that prints when it is imported."""

import sys
from sys import stdout as kept

import pytest

print("imported")
print("also", file=sys.stderr)


@pytest.mark.ranks(2)
def test_it(rank):
    print("half", end="", file=kept)
    assert rank != 1
