"""Fixtures that a test asks for while it runs."""

import pytest


@pytest.fixture(scope="session")
def base():
    return 1


@pytest.fixture(scope="module")
def wide(base):
    return base + 1


@pytest.fixture
def narrow(request):
    return request.getfixturevalue("wide")


@pytest.mark.ranks(2)
@pytest.mark.parametrize("name", ["wide", "narrow"])
def test_late(request, name):
    request.getfixturevalue(name)


@pytest.mark.ranks(2)
def test_named(request, wide, narrow):
    assert (request.getfixturevalue("wide"), narrow, request.getfixturevalue("base")) == (2, 2, 1)


@pytest.mark.ranks(2, in_ranks=["wide", "base"])
def test_in_ranks(request):
    assert request.getfixturevalue("narrow") == 2
