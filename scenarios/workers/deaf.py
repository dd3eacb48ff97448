"""A step loop that ignores SIGTERM and SIGINT, as a rank does that is busy in a collective."""

import os
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
for step in range(1, 101):
    print(f"rank {os.environ['RANK']}: step {step}", flush=True)
    time.sleep(0.05)  # noqa: TID251 - this is the work
