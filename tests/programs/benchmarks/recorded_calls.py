"""Prints nanoseconds of processor time of an all_reduce of one rank, bare and recorded, and of what that adds."""

import json
import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

from derail.faults.inrank.hooks.spots import detour
from derail.faults.inrank.hooks.torch_collectives import Groups, Reach, _group_wide
from derail.faults.inrank.recorder import Recorder

ROUNDS, CALLS = int(sys.argv[1]), 1000
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
tensor = torch.ones(1024)
recorder = Recorder(tempfile.mkdtemp(), 0, world=1, attempt=0)
recorder.open()
recorder.hide(torch.__path__[0])
describe = _group_wide("all_reduce", "tensor", Groups(c10d), Reach(dist.all_reduce))
wait = c10d.Work.wait


def measure():
    begin = time.thread_time_ns()
    for _ in range(CALLS):
        dist.all_reduce(tensor)
    return (time.thread_time_ns() - begin) / CALLS


bare, recorded = [], []
for _ in range(ROUNDS):
    bare.append(measure())
    undo = detour(dist.all_reduce, lambda original: recorder.wrap(original, describe))
    c10d.Work.wait = recorder.wrap_wait(wait)
    recorded.append(measure())
    undo()
    c10d.Work.wait = wait
added = [after - before for before, after in zip(bare, recorded, strict=True)]
print(json.dumps([statistics.median(each) for each in (bare, recorded, added)]))
dist.destroy_process_group()
