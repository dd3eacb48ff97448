"""A step loop whose rank 0 leaves with CODE after ten steps; with "stopped" not before its launcher was stopped.

The launcher is any ancestor that is stopped. Each rank prints three steps, and whether its launcher was stopped. It
continues without a console.
"""

import os
import sys
import time
from pathlib import Path

VARIABLES = "RANK OMPI_COMM_WORLD_RANK PMIX_RANK PMI_RANK SLURM_PROCID"
names = [os.environ.get("DERAIL_RANK_VARIABLE", ""), *VARIABLES.split()]
rank = next((os.environ[name] for name in names if os.environ.get(name)), "?")
steps_file = os.environ.get("DERAIL_STEPS")
stopped = False


def say(text):
    if steps_file:  # of a scenario about the launcher: derail reads it, whatever the launcher shows
        with open(steps_file, "a") as file:
            file.write(f"{text}\n")
    try:
        print(text, flush=True)
    except OSError:  # EPIPE, EIO: the launcher's end of the pipe or terminal is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def is_launcher_stopped():
    pid = os.getppid()
    while pid > 1:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False
        if "\nState:\tT" in status:
            return True
        pid = int(status.partition("\nPPid:")[2].split()[0])
    return False


if rank == "?":
    say("no rank in the environment")
for step in range(1, 101):
    if step <= 3:
        say(f"rank {rank}: step {step}")
    time.sleep(0.05)  # noqa: TID251 - this is the work
    if "stopped" in sys.argv and not stopped and is_launcher_stopped():
        stopped = True
        say(f"rank {rank}: the launcher is stopped")
    if rank == "0" and step >= 10 and (stopped or "stopped" not in sys.argv):
        sys.exit(int(sys.argv[1]))
