"""Tests that are collected only."""

import pytest


@pytest.mark.ranks([1, 4])
@pytest.mark.parametrize("dtype", ["half"])
def test_many(rank, dtype):
    raise SystemError("nobody runs it")


@pytest.mark.ranks(2)
def test_two(rank):
    raise SystemError("nobody runs it")


def test_job(derail):
    raise SystemError("nobody runs it")
