"""A step loop in which rank 0 has a hundred steps to do, and every other rank three."""

import os
import time

rank = os.environ["RANK"]
for step in range(1, 101 if rank == "0" else 4):
    print(f"rank {rank}: step {step}", flush=True)
    time.sleep(0.05)  # noqa: TID251 - this is the work
print(f"rank {rank}: done", flush=True)
