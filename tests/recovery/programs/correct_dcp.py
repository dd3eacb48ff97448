"""Correct writer with ``torch.distributed.checkpoint``: a directory a step, which counts once it has ``.metadata``."""

import shutil

import torch
from torch import distributed
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from toy import arguments, number, synchronize

args = arguments()
torch.manual_seed(0)
torch.set_num_threads(1)
distributed.init_process_group("gloo")
rank, size = distributed.get_rank(), distributed.get_world_size()
data = torch.randn(32, 8)
expected = data.sum(1, keepdim=True)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Dropout(0.25), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
torch.manual_seed(rank)


def state_of(step):
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "step": torch.tensor(step)}
    return state | {f"random_{each}": torch.get_rng_state() for each in range(size)}


def save(step):
    state = {key: value for key, value in state_of(step).items() if key in own}
    checkpoint.save(state, checkpoint_id=args.out / f"step_{step}")
    if rank == 0:
        synchronize(args.out / f"step_{step}")
        synchronize(args.out)
        keep_only(args.out / f"step_{step}")
    distributed.barrier()


def keep_only(saved):
    for other in args.out.iterdir():
        if other != saved:
            shutil.rmtree(other)


own = {"model", "optimizer", "step", f"random_{rank}"}
step = 0
newest = max((path.parent for path in args.out.glob("step_*/.metadata")), key=number, default=None)
distributed.barrier()
if rank == 0:
    keep_only(newest)
if newest is not None:
    state = state_of(step)
    checkpoint.load(state, checkpoint_id=newest)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    torch.set_rng_state(state[f"random_{rank}"])
    step = int(state["step"])
    if rank == 0:
        print(f"resumed at step {step}", flush=True)
distributed.barrier()
while step < args.steps:
    order = torch.randperm(32, generator=torch.Generator().manual_seed(step // 2))
    begin = (step % 2 * size + rank) * 8 % 32
    batch = order[begin : begin + 8]
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(data[batch]), expected[batch]).backward()
    for parameter in model.parameters():
        distributed.all_reduce(parameter.grad)
        parameter.grad /= size
    optimizer.step()
    step += 1
    if rank == 0:
        print(f"step {step}", flush=True)
    if step % args.save_every == 0:
        save(step)
model.eval()
with torch.no_grad():
    loss = torch.nn.functional.mse_loss(model(data), expected).item()
if rank == 0:
    print(f"final loss {loss!r}", flush=True)
distributed.destroy_process_group()
