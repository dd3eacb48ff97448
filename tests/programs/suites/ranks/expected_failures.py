"""Failures of ranks under an expectation of another failure."""

import pytest
from ends import die, hang

from pytest_derail import RanksFailed


@pytest.mark.ranks(2)
@pytest.mark.xfail
def test_raises(rank):
    assert rank == 0


@pytest.mark.ranks(2)
@pytest.mark.xfail(strict=True)
def test_dies(rank):
    if rank == 1:
        die()


@pytest.mark.ranks(2)
@pytest.mark.xfail(raises=Exception)
def test_dies_behind_another(rank, tmp_path):
    if rank == 1:
        with open(tmp_path / "there", "w"):
            die()
    while not (tmp_path / "there").exists():
        pass
    assert not rank


@pytest.mark.ranks(2, timeout=3)
@pytest.mark.xfail
def test_hangs(rank):
    if rank == 1:
        hang()


@pytest.mark.ranks(2)
@pytest.mark.xfail(raises=(OSError, RanksFailed))
def test_names_it(rank):
    if rank == 1:
        die()
