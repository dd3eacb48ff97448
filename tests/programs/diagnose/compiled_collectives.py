"""Calls a collective in compiled code, on two ranks; then rank 1 goes elsewhere, and rank 0 waits for it there."""

import threading

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional


def evaluate():
    threading.Event().wait()


@torch.compile(fullgraph=True, backend="aot_eager")
def step(x):
    return functional.all_reduce(x, "sum", dist.group.WORLD) * 2


dist.init_process_group("gloo")
x = torch.ones(6)
step(x)
issued = dist.all_reduce(x, async_op=True)
step(x)
issued.wait()
dist.barrier()
print("goes", flush=True)
input()
if dist.get_rank() == 1:
    evaluate()
step(x)
