"""Each rank starts two helpers, as data loaders do; --session hides them from its group. At its end it ends them."""

import os
import subprocess
import sys
import time

helpers = [
    subprocess.Popen(["sleep", "60"], start_new_session="--session" in sys.argv, stdout=subprocess.DEVNULL)
    for _ in range(2)
]
for step in range(1, 61):
    print(f"rank {os.environ['RANK']}: step {step}", flush=True)
    time.sleep(0.05)  # noqa: TID251 - this is the work
for helper in helpers:
    helper.kill()
    helper.wait()
print(f"rank {os.environ['RANK']}: done", flush=True)
