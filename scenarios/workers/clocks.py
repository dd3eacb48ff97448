"""A step loop that tells when its wall clock does not agree with its monotonic one, or one is far from the truth."""

import os
import sys
import time

rank = os.environ["RANK"]
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20


def work():
    time.sleep(0.05)  # noqa: TID251 - in short


for step in range(1, steps + 1):
    print(f"rank {rank}: step {step}", flush=True)
    steady = time.monotonic()
    wall = time.time()  # noqa: TID251 - it is the subject; read within the other, so that no pause between makes it fast
    work()
    passed = time.time() - wall  # noqa: TID251 - as above
    really = time.monotonic() - steady
    if passed < 0:
        print(f"rank {rank}: the wall clock went back", flush=True)
    elif passed == 0:
        print(f"rank {rank}: the wall clock stands", flush=True)
    elif passed > really + 0.04:
        print(f"rank {rank}: the wall clock is fast", flush=True)
    if wall > 4102444800:
        print(f"rank {rank}: this is the 22nd century", flush=True)
    if steady > 10**8:
        print(f"rank {rank}: up for years", flush=True)
print(f"rank {rank}: done", flush=True)
