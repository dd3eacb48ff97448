"""Tests with mpi4py, as they run under mpiexec."""

import os
import threading

from mpi4py import MPI

comm = MPI.COMM_WORLD


def test_sum():
    assert comm.allreduce(comm.rank) == 3


def test_dies():
    if comm.rank == 2:
        os.kill(os.getpid(), 9)
    comm.barrier()


def test_after():
    assert comm.allgather(comm.rank) == [0, 1, 2]


def evaluate():
    threading.Event().wait()


def test_hangs():
    comm.allreduce(1)
    if comm.rank == 1:
        evaluate()
    comm.Barrier()
