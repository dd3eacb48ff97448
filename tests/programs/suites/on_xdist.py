"""Tests on ranks in a worker of xdist."""

import os

import pytest


@pytest.mark.ranks([1, 2])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_one(rank, world_size, tmp_path, number, worker_id, testrun_uid):
    assert worker_id == os.environ["PYTEST_XDIST_WORKER"]
    (tmp_path / str(rank)).touch()
    print("port", os.environ["MASTER_PORT"])
    assert number != 3 or rank != 1, "a message"
