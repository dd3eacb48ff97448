"""Tests of collectives for ``torchrun -m pytest``: RANK is read on import, and results differ by rank."""

import os

import pytest
import torch
import torch.distributed as dist

RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
STEPS = []


@pytest.fixture
def value():
    return torch.full((3,), float(RANK))


@pytest.mark.parametrize("operation", ["SUM", "MAX", "MIN", "PRODUCT"])
def test_all_reduce(value, operation):
    dist.all_reduce(value, getattr(dist.ReduceOp, operation))
    expected = {"SUM": 6.0, "MAX": 3.0, "MIN": 0.0, "PRODUCT": 0.0}[operation]
    assert value.tolist() == [expected] * 3


@pytest.mark.parametrize("source", range(4))
def test_broadcast(value, source):
    dist.broadcast(value, source)
    assert value.tolist() == [float(source)] * 3


def test_all_gather(value):
    parts = [torch.zeros(3) for _ in range(WORLD_SIZE)]
    dist.all_gather(parts, value)
    assert [part[0].item() for part in parts] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("half", [0, 1])
def test_a_group_of_its_own(halves, value, half):
    if RANK // 2 == half:
        dist.all_reduce(value, group=halves[half])
        assert value[0].item() == [1.0, 5.0][half]


def test_objects():
    got = [None] * WORLD_SIZE
    dist.all_gather_object(got, {"rank": RANK})
    assert [each["rank"] for each in got] == [0, 1, 2, 3]


class TestState:
    def test_one(self):
        STEPS.append(1)
        dist.barrier()

    def test_two(self):
        dist.barrier()
        assert STEPS == [1]


@pytest.mark.skipif(WORLD_SIZE < 8, reason="needs 8 ranks")
def test_skipped():
    raise AssertionError


@pytest.mark.xfail(reason="not yet", raises=ZeroDivisionError)
def test_expected():
    dist.barrier()
    raise ZeroDivisionError


def test_fails_on_all(value):
    dist.all_reduce(value)
    assert value[0].item() == 7.0


def test_fails_on_rank_two(value):
    dist.all_reduce(value)
    assert RANK != 2, "rank 2 has another mind"


def test_raises_on_rank_three():
    dist.barrier()
    if RANK == 3:
        raise RuntimeError("checkpoint of rank 3 is missing")


def test_after_the_failures(value):
    dist.all_reduce(value)
    assert value[0].item() == 6.0
