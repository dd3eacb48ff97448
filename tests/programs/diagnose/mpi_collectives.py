"""Calls collectives of mpi4py on two ranks; rank 1 then leaves out the last one."""

import sys

from mpi4py import MPI

comm = MPI.COMM_WORLD
rank = comm.Get_rank()
comm.Barrier()
comm.bcast(rank)
half = comm.Split(rank % 2, rank)
half.Barrier()
copy = comm.Dup()
copy.allreduce(rank)
if rank == 0:
    comm.send(1, dest=1)
else:
    comm.recv(source=0)
print(isinstance(comm, MPI.Intracomm), comm.Get_size(), half.Get_size(), flush=True)
if rank == 0:
    comm.Barrier()
sys.stdin.read()
