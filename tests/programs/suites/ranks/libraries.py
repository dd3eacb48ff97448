"""Tests on ranks with mpi4py and jax."""

import pytest


@pytest.mark.ranks(1)
def test_one_rank_is_a_world(comm):
    from mpi4py import MPI

    assert comm is MPI.COMM_WORLD
    assert comm.allreduce(3) == 3


@pytest.mark.ranks(1, reuse="module")
@pytest.mark.parametrize("number", [1, 2])
def test_kept_world(comm, number):
    assert comm.allreduce(number) == number


@pytest.mark.ranks(2)
def test_two_worlds(comm):
    assert comm


@pytest.mark.ranks(2)
def test_jax(jax_distributed, rank):
    import jax
    import jax.numpy as jnp
    from jax.experimental.multihost_utils import process_allgather

    assert jax_distributed is jax.distributed
    assert jax.process_count() == 2
    assert process_allgather(jnp.array([rank + 1.0])).ravel().tolist() == [1.0, 2.0]


@pytest.mark.ranks(2, reuse="module")
@pytest.mark.parametrize("number", [1, 2])
def test_kept_jax(jax_distributed, rank, number):
    import jax.numpy as jnp
    from jax.experimental.multihost_utils import process_allgather

    assert process_allgather(jnp.array([rank + number])).ravel().tolist() == [number, number + 1]


@pytest.mark.ranks(1)
def test_both(jax_distributed, process_group):
    assert jax_distributed


def test_launched(comm, rank):
    assert comm.allgather(rank) == [0, 1]
