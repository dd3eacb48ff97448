"""A step loop whose rank 0 leaves with CODE after ten steps; with "stopped" not before its launcher was stopped.

Each rank tells when that is stopped.
"""

import os
import sys
import time
from pathlib import Path

rank = os.environ["RANK"]
stopped = False
for step in range(1, 101):
    print(f"rank {rank}: step {step}", flush=True)
    time.sleep(0.05)  # noqa: TID251 - this is the work
    if "State:\tT" in Path(f"/proc/{os.getppid()}/status").read_text() and not stopped:
        stopped = True
        print(f"rank {rank}: the launcher is stopped", flush=True)
    if rank == "0" and step >= 10 and (stopped or "stopped" not in sys.argv):
        sys.exit(int(sys.argv[1]))
