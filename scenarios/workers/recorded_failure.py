"""Rank 1 raises after its first step and records that in its error file; the others go on until they are stopped."""

import os
import time

from derail.errors import record


@record
def main():
    rank = int(os.environ["RANK"])
    for step in range(1, 10001):
        print(f"rank {rank}: step {step}", flush=True)
        if rank == 1:
            raise RuntimeError("loss is nan")
        time.sleep(0.05)  # noqa: TID251 - this is the work


if __name__ == "__main__":
    main()
