"""Each rank starts two helpers, as data loaders do; --session hides them from its group. At its end it ends them.

With ``--pids DIRECTORY`` it leaves their numbers there, and fails if a helper of its predecessor is still alive.
"""

import os
import subprocess
import sys
import time
from pathlib import Path


def is_alive(pid):
    """Whether a helper still runs: a zombie does not, and a process of another name is another one."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return False
    return name.endswith("(sleep") and rest.split()[0] != "Z"


pids = Path(sys.argv[sys.argv.index("--pids") + 1], f"helpers-{os.environ['RANK']}") if "--pids" in sys.argv else None
if pids is not None and pids.exists():
    alive = [pid for pid in pids.read_text().split() if is_alive(pid)]
    if alive:
        sys.exit(f"rank {os.environ['RANK']}: helpers of the attempt before are still there: {', '.join(alive)}")
helpers = [
    subprocess.Popen(["sleep", "60"], start_new_session="--session" in sys.argv, stdout=subprocess.DEVNULL)
    for _ in range(2)
]
if pids is not None:
    pids.write_text(" ".join(str(helper.pid) for helper in helpers))
for step in range(1, 61):
    print(f"rank {os.environ['RANK']}: step {step}", flush=True)
    time.sleep(0.05)  # noqa: TID251 - this is the work
for helper in helpers:
    helper.kill()
    helper.wait()
print(f"rank {os.environ['RANK']}: done", flush=True)
