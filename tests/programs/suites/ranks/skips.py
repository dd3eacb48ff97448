"""Skipped tests and expected failures, of all ranks or of one."""

import os

import pytest


@pytest.mark.ranks(2)
@pytest.mark.skip(reason="by marker")
def test_marker():
    os._exit(1)


@pytest.mark.ranks(2)
def test_all():
    pytest.importorskip("no_such_module")


@pytest.mark.ranks(2)
def test_one(rank):
    if rank == 1:
        pytest.skip("no such thing")


@pytest.fixture
def skips():
    pytest.skip("in a fixture")


@pytest.mark.ranks(1)
def test_fixture(skips):
    pass


@pytest.mark.ranks(2)
def test_imperative(rank):
    if rank == 1:
        pytest.xfail("known")


@pytest.mark.ranks(2)
@pytest.mark.xfail(raises=ValueError, strict=True, reason="by marker")
def test_raises(rank):
    if rank == 1:
        raise ValueError


@pytest.mark.ranks(1)
@pytest.mark.xfail(raises=KeyError)
def test_raises_another():
    raise ValueError


@pytest.mark.ranks(1)
@pytest.mark.xfail(strict=True, reason="never")
def test_passes_strictly():
    pass
