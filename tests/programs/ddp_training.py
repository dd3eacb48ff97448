"""A small training with DistributedDataParallel over gloo: ``ddp_training.py DIRECTORY``, two epochs of eight steps.

After each epoch rank 0 saves; a restarted job goes on from there. Each rank has data of its own, by its rank and epoch.
"""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

torch.manual_seed(0)
distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
rank = distributed.get_rank()
saved = Path(sys.argv[1]) / "checkpoint.pt"
model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
begin = 0
if saved.exists():
    state = torch.load(saved)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    begin = state["epoch"] + 1
    print(f"rank {rank}: resumed at step {8 * begin + 1}", flush=True)
for epoch in range(begin, 2):
    chance = torch.Generator().manual_seed(1000 * epoch + rank)
    for step in range(1, 9):
        print(f"rank {rank}: epoch {epoch} step {step}", flush=True)
        batch = torch.randn(16, 8, generator=chance)
        loss = torch.nn.functional.mse_loss(model(batch), batch.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if rank == 0:
        draft = saved.with_suffix(".new")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, draft)
        draft.replace(saved)
    distributed.barrier()
mean = loss.detach().clone()
distributed.all_reduce(mean)
print(f"rank {rank}: loss {mean.item() / int(os.environ['WORLD_SIZE']):.6f}", flush=True)
# As in scenarios/workers/ddp_step.py: gloo's threads hold the last step, and no event shows when they let go of it.
time.sleep(0.3)
distributed.destroy_process_group()
