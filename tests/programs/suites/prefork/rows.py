"""Tests in a row, after which the controller holds what it held before: ``NUMBER`` of each kind."""

import os

import pytest

NUMBER = int(os.environ["NUMBER"])


def held():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        children = len(file.read().split())
    return len(os.listdir("/proc/self/fd")), children, len(os.listdir("/proc/self/task"))


before = []


@pytest.mark.ranks(2)
def test_first():
    pass


@pytest.mark.ranks(2, reuse="session")
def test_first_of_kept():
    pass


def test_before():
    before.append(held())


@pytest.mark.ranks(2)
@pytest.mark.parametrize("number", range(NUMBER))
def test_in_a_row(number):
    pass


@pytest.mark.ranks(2, reuse="session")
@pytest.mark.parametrize("number", range(NUMBER))
def test_in_a_row_on_kept(number):
    pass


def test_after():
    assert held() == before[0]
