"""Fixtures of each scope, in the ranks and in the controller."""

import os
from multiprocessing import parent_process

import pytest


def launcher():
    return parent_process().pid


class Here:
    def __init__(self):
        self.pid = os.getpid()


@pytest.fixture(scope="module", params=["a", "b"])
def letter(request, count):
    count.append(request.param)
    return request.param


@pytest.fixture(scope="session")
def count():
    return []


@pytest.fixture(scope="session")
def nothing(count):
    count.append("nothing")


@pytest.fixture(scope="class")
def here(letter):
    yield Here()
    assert os.environ.get("RANK") is None, "its end is in the controller, too"


@pytest.fixture
def mine(here, rank):
    yield os.getpid(), here.pid, rank
    print("torn down in", rank)


state = []


def setup_module():
    state.append(os.getpid())


class TestClass:
    def setup_method(self):
        self.pid = os.getpid()

    @pytest.mark.ranks(2)
    @pytest.mark.parametrize("number", [1, 2])
    def test_values(self, mine, here, letter, nothing, number, rank, request):
        assert mine == (os.getpid(), launcher(), rank)
        assert self.pid == os.getpid() == state[-1]
        assert nothing is None
        assert request.node.name == f"test_values[{letter}-{number}]"


def test_count(count, nothing):
    assert count == ["nothing", "a", "b"] or count == ["a", "nothing", "b"]
