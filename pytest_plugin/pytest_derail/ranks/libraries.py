"""Worlds of other libraries for tests on ranks: mpi4py's communicator, and jax's processes."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_WORLD = (
    "MPI.COMM_WORLD has {size} rank(s), but the test has {ranks}: an MPI launcher has not started these ranks, so that "
    "each is alone in its world. Start them with --derail-launcher 'mpiexec -n {{ranks}}'"
)


def mpi_world(ranks: int) -> Any:
    """Return ``MPI.COMM_WORLD``, which must contain all ranks of the test.

    Raises:
        Skipped: if mpi4py is not installed.
        Failed: if it finds no MPI library, or if the ranks are no MPI world.
    """
    __tracebackhide__ = True
    pytest.importorskip("mpi4py")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # its wheel looks for the library when it is imported
        pytest.fail(f"mpi4py is installed, but cannot load an MPI library: {error}", pytrace=False)
    world: Any = MPI.COMM_WORLD
    if world.size != ranks:
        pytest.fail(NO_WORLD.format(size=world.size, ranks=ranks), pytrace=False)
    return world


@contextmanager
def open_jax(seconds: float, *, kept: bool = False) -> Iterator[Any]:
    """Make this rank one of jax's processes, unless that is done; end that afterwards unless it is kept.

    Args:
        seconds: how long to wait for the other ranks.
        kept: whether the next test uses it as well; jax ends it then at the exit of the rank.

    Raises:
        Skipped: if jax is not installed.
    """
    jax: Any = pytest.importorskip("jax")
    if not jax.distributed.is_initialized():
        jax.distributed.initialize(
            coordinator_address=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            num_processes=int(os.environ["WORLD_SIZE"]),
            process_id=int(os.environ["RANK"]),
            initialization_timeout=max(1, round(seconds)),
        )
        if kept:
            # A first collective opens the connections between ranks, which stay for the next tests.
            import_module("jax.experimental.multihost_utils").sync_global_devices("derail")
    try:
        yield jax.distributed
    finally:
        if not kept:
            jax.distributed.shutdown()
