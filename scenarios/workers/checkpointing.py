"""A step loop of which rank 0 saves the step in DIRECTORY, every fifth one; after a restart all go on from there."""

import os
import sys
import time
from pathlib import Path

rank = int(os.environ["RANK"])
checkpoint = Path(sys.argv[1]) / "checkpoint.txt"
last = int(sys.argv[2]) if len(sys.argv) > 2 else 20

first = 1
if checkpoint.exists():
    first = int(checkpoint.read_text()) + 1
    print(f"rank {rank}: resumed at step {first}", flush=True)
for step in range(first, last + 1):
    print(f"rank {rank}: step {step}", flush=True)
    time.sleep(0.05)  # noqa: TID251 - this is the work
    if rank == 0 and step % 5 == 0:
        draft = checkpoint.with_suffix(".new")
        draft.write_text(str(step))
        draft.replace(checkpoint)
        print(f"rank {rank}: saved step {step}", flush=True)
print(f"rank {rank}: done", flush=True)
