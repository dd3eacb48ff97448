"""Calls each kind of collective once, on two ranks, and prints what the functions look like."""

import inspect
import pickle

import torch
import torch.distributed as dist
from torch.distributed import all_reduce

dist.init_process_group("gloo")
rank = dist.get_rank()
other = 1 - rank
tensor = torch.ones(4)
all_reduce(tensor)
dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
group = dist.new_group([0, 1], group_desc="dp")
dist.broadcast(tensor, 1, group=group)
dist.broadcast(tensor, group=group, group_src=1)
dist.all_gather([torch.ones(4), torch.ones(4)], tensor)
dist.all_gather_into_tensor(torch.ones(8), tensor)
dist.all_gather_object([None, None], rank)
dist.broadcast_object_list([rank], 0)
dist.barrier()
dist.monitored_barrier()
dist.reduce(tensor, 0)
work = dist.all_reduce(tensor, async_op=True)
print("issued", flush=True)
input()
work.wait()
if rank == 0:
    dist.send(tensor, 1)
    dist.recv(tensor, 1)
else:
    dist.recv(tensor, 0)
    dist.send(tensor, 0)
for request in dist.batch_isend_irecv(
    [dist.P2POp(dist.isend, tensor, other), dist.P2POp(dist.irecv, torch.ones(4), other)]
):
    request.wait()
try:
    dist.all_reduce(None)
except Exception as error:
    print(type(error).__name__)
print(
    all_reduce is dist.all_reduce is pickle.loads(pickle.dumps(all_reduce)), *inspect.signature(all_reduce).parameters
)
print("done", flush=True)
input()
dist.distributed_c10d._get_default_store().get("a key that no rank sets")
