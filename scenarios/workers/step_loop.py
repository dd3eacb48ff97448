"""A training loop in small: prints "step 1", "step 2" ... with a pause after each, and ends with code 0."""

import argparse
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--pause", type=float, default=0.05)
options = parser.parse_args()

rank = os.environ.get("RANK", "?")


def work():
    time.sleep(options.pause)  # noqa: TID251 - in short


for step in range(1, options.steps + 1):
    print(f"rank {rank}: step {step}", flush=True)
    work()
print(f"rank {rank}: done", flush=True)
