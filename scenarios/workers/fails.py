"""A step loop whose rank 0 leaves with CODE after ten steps; with "stopped" not before its launcher was stopped.

Each rank prints three steps, and whether its launcher was stopped. It continues without a console.
"""

import os
import sys
import time
from pathlib import Path

VARIABLES = "RANK OMPI_COMM_WORLD_RANK PMIX_RANK PMI_RANK SLURM_PROCID"
names = [os.environ.get("DERAIL_RANK_VARIABLE", ""), *VARIABLES.split()]
rank = next((os.environ[name] for name in names if os.environ.get(name)), "?")
stopped = False


def say(text):
    try:
        print(text, flush=True)
    except OSError:  # EPIPE, EIO: the launcher's end of the pipe or terminal is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if rank == "?":
    say("no rank in the environment")
for step in range(1, 101):
    if step <= 3:
        say(f"rank {rank}: step {step}")
    time.sleep(0.05)  # noqa: TID251 - this is the work
    if "State:\tT" in Path(f"/proc/{os.getppid()}/status").read_text() and not stopped:
        stopped = True
        say(f"rank {rank}: the launcher is stopped")
    if rank == "0" and step >= 10 and (stopped or "stopped" not in sys.argv):
        sys.exit(int(sys.argv[1]))
