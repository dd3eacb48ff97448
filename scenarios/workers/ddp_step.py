"""A linear model under DistributedDataParallel with gloo: STEPS, and DIRECTORY for a checkpoint every fifth step."""

import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

torch.manual_seed(0)
distributed.init_process_group("gloo", timeout=timedelta(seconds=20))
rank = distributed.get_rank()
model = DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
batch, target = torch.randn(16, 8), torch.randn(16, 1)

first = 1
checkpoint = Path(sys.argv[2]) / "checkpoint.pt" if len(sys.argv) > 2 else None
if checkpoint is not None and checkpoint.exists():
    state = torch.load(checkpoint)
    model.load_state_dict(state["model"])
    first = state["step"] + 1
    print(f"rank {rank}: resumed at step {first}", flush=True)

for step in range(first, int(sys.argv[1]) + 1):
    print(f"rank {rank}: step {step}", flush=True)
    loss = torch.nn.functional.mse_loss(model(batch), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if checkpoint is not None and rank == 0 and step % 5 == 0:
        draft = checkpoint.with_suffix(".new")
        torch.save({"model": model.state_dict(), "step": step}, draft)
        draft.replace(checkpoint)
print(f"rank {rank}: loss {loss.item():.6f}", flush=True)

# DDP keeps gloo's threads for ever; one that lets go of the last step while Python ends aborts: pytorch/pytorch#190489.
time.sleep(0.3)  # noqa: TID251 - nothing tells when they have
distributed.destroy_process_group()
