"""A step loop that keeps a small file in DIRECTORY at each step, as loaders do. The files have no name: none stays."""

import os
import sys
import tempfile
import time

rank = os.environ["RANK"]
files = []
for step in range(1, 101):
    print(f"rank {rank}: step {step}", flush=True)
    files.append(tempfile.TemporaryFile(dir=sys.argv[1], buffering=0))
    data = b"x" * 2000
    while data:
        data = data[files[-1].write(data) :]
    time.sleep(0.05)  # noqa: TID251 - this is the work
