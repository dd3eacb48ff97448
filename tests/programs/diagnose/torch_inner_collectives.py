"""Uses DDP, FSDP and functional collectives, on two ranks; then rank 1 goes elsewhere in the way that is named."""

import sys
import threading

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel


class Net(torch.nn.Module):
    """Module with a buffer, which returns a dictionary."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 4)
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x):
        return {"loss": self.inner(x).sum()}


def evaluate():
    threading.Event().wait()


def reduced(x):
    return functional.wait_tensor(functional.all_reduce(x, "sum", dist.group.WORLD))


dist.init_process_group("gloo")
rank = dist.get_rank()
mesh = init_device_mesh("cpu", (2,))
x = torch.ones(2, 4)

ddp = DistributedDataParallel(Net())
for _ in range(2):
    ddp(x)["loss"].backward()
with ddp.no_sync():
    ddp(x)["loss"].backward()
ddp(x)["loss"].backward()
try:
    ddp.module.inner.bias.register_hook(lambda _: 1 / 0)
    ddp(x)["loss"].backward()
except ZeroDivisionError:
    pass

other = DistributedDataParallel(Net(), broadcast_buffers=False)
issued = functional.all_reduce(x, "sum", mesh)
whole = functional.all_gather_tensor(x, 0, (mesh, 0))
part = functional.reduce_scatter_tensor(x, "sum", 0, group=dist.group.WORLD)
print("issued", flush=True)
input()
print(issued.sum().item(), whole.shape[0], part.wait().shape[0], flush=True)
print(torch.compile(reduced, fullgraph=True, backend="eager")(x).sum().item(), flush=True)

sharded = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
for part in (*sharded, sharded):
    fully_shard(part, mesh=mesh)
sharded(x).sum().backward()

print("goes", flush=True)
loss = {"ddp": lambda: other(x)["loss"], "fsdp": lambda: sharded(x).sum(), "functional": lambda: x}[sys.argv[1]]()
if rank == 1:
    evaluate()
if sys.argv[1] == "functional":
    functional.all_reduce(x, "sum", mesh).sum()
else:
    loss.backward()
dist.barrier()
