"""A step loop that saves when it gets SIGTERM and leaves with code 0; on SIGUSR1 it saves and goes on."""

import os
import signal
import sys
import time

rank = os.environ["RANK"]


def save_and_leave(*_):
    print(f"rank {rank}: saved on SIGTERM", flush=True)
    sys.exit(0)


def save(*_):
    print(f"rank {rank}: saved on SIGUSR1", flush=True)


signal.signal(signal.SIGTERM, save_and_leave)
signal.signal(signal.SIGUSR1, save)
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
for step in range(1, steps + 1):
    print(f"rank {rank}: step {step}", flush=True)
    time.sleep(0.05)  # noqa: TID251 - this is the work
print(f"rank {rank}: done", flush=True)
