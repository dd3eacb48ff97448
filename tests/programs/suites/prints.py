"""Ranks that print."""

import sys

import pytest


@pytest.mark.ranks(2)
def test_ranks(rank):
    print("out of", rank)
    print("err of", rank, file=sys.stderr)


def says():
    print("said")


def test_job(derail):
    derail.run(says, ranks=1, start_method="spawn")
