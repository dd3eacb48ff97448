"""Correct writer with torch: ``torch.save`` to a draft, fsync, replace, fsync of the directory; SIGTERM saves."""

import os
import signal
import sys

import torch
from toy import arguments, synchronize

asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
torch.manual_seed(0)
torch.set_num_threads(1)
data = torch.randn(32, 8)
expected = data.sum(1, keepdim=True)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Dropout(0.25), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def save(out, step):
    state = {
        "step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state(),
    }  # fmt: skip
    with open(out / "draft.pt", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(out / "draft.pt", out / "state.pt")
    synchronize(out)


args, step = arguments(), 0
if (args.out / "state.pt").exists():
    state = torch.load(args.out / "state.pt")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    step = state["step"]
    print(f"resumed at step {step}", flush=True)
while step < args.steps:
    order = torch.randperm(32, generator=torch.Generator().manual_seed(step // 4))
    batch = order[step % 4 * 8 : step % 4 * 8 + 8]
    loss = torch.nn.functional.mse_loss(model(data[batch]), expected[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
    print(f"step {step}", flush=True)
    if step % args.save_every == 0 or asked:
        save(args.out, step)
    if asked:
        sys.exit(128 + signal.SIGTERM)
model.eval()
with torch.no_grad():
    print(f"final loss {torch.nn.functional.mse_loss(model(data), expected).item()!r}", flush=True)
