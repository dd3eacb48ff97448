"""A step loop. At each fifth step all wait for all, and rank 0 saves it in DIRECTORY; a restart goes on from there."""

import os
import sys
import time
from pathlib import Path

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
directory = Path(sys.argv[1])
checkpoint = directory / "checkpoint.txt"
last = int(sys.argv[2]) if len(sys.argv) > 2 else 20


def work():
    time.sleep(0.05)  # noqa: TID251 - in short


def has_done(step, of):
    return directory / f"from-{first}-step-{step}-rank-{of}"


first = 1
if checkpoint.exists():
    first = int(checkpoint.read_text()) + 1
    print(f"rank {rank}: resumed at step {first}", flush=True)
for step in range(first, last + 1):
    print(f"rank {rank}: step {step}", flush=True)
    work()
    if step % 5 == 0:
        has_done(step, rank).touch()
        while not all(has_done(step, other).exists() for other in range(size)):
            time.sleep(0.01)  # noqa: TID251 - as in a collective
        if rank == 0:
            draft = checkpoint.with_suffix(".new")
            draft.write_text(str(step))
            draft.replace(checkpoint)
            print(f"rank {rank}: saved step {step}", flush=True)
print(f"rank {rank}: done", flush=True)
