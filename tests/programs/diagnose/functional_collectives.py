"""Waits for functional collectives in every way, on one rank."""

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
group = dist.group.WORLD
tensor = torch.ones(4)
assert functional.all_reduce(tensor, "sum", group).view(2, 2).tolist() == [[1.0, 1.0], [1.0, 1.0]]
assert functional.wait_tensor(tensor=functional.broadcast(tensor, 0, group)).sum() == 4
assert functional.all_gather_tensor(torch.ones(2, 2), 1, group.group_name).sum() == 4
assert [part.sum() for part in functional.all_reduce_coalesced([tensor, tensor], "sum", group)] == [4, 4]
unused = functional.all_reduce(tensor, "max", group)
print("done", flush=True)
input()
functional.wait_tensor(unused)
