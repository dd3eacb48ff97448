"""A step loop that writes a small file into DIRECTORY at each step, as loaders do, and removes all in the end."""

import os
import sys
import time
from pathlib import Path

rank = os.environ["RANK"]
written = []
try:
    for step in range(1, 101):
        print(f"rank {rank}: step {step}", flush=True)
        written.append(Path(sys.argv[1]) / f"derail-{os.getpid()}-{step}")
        written[-1].write_bytes(b"x" * 2000)
        time.sleep(0.05)  # noqa: TID251 - this is the work
finally:
    for file in written:
        file.unlink(missing_ok=True)
