"""Errors in the set-up, in the tear-down and at the import."""

import os

import pytest


@pytest.fixture
def broken_start(rank):
    if rank == 1:
        raise OSError("no start")


@pytest.fixture
def broken_end(rank):
    yield
    if rank == 1:
        raise OSError("no end")


@pytest.mark.ranks(2)
def test_start(broken_start):
    pass


@pytest.mark.ranks(2)
def test_end(broken_end):
    pass


@pytest.mark.ranks(1)
@pytest.mark.parametrize("pid", [os.getpid()])
def test_other_parameters(pid):
    pass


@pytest.mark.ranks(1)
def test_import(monkeypatch):
    pass


if os.environ.get("PYTEST_CURRENT_TEST", "").startswith("test_it.py::test_import"):
    raise OSError("not in a rank")
