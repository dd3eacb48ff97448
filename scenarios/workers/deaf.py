"""A step loop that ignores SIGTERM and SIGINT, as a rank does that is busy in a collective; it prints the first SAID
steps, and continues without a console."""

import os
import signal
import sys
import time

VARIABLES = "RANK OMPI_COMM_WORLD_RANK PMIX_RANK PMI_RANK SLURM_PROCID"
names = [os.environ.get("DERAIL_RANK_VARIABLE", ""), *VARIABLES.split()]
rank = next((os.environ[name] for name in names if os.environ.get(name)), "?")
steps_file = os.environ.get("DERAIL_STEPS")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
said = int(sys.argv[1]) if len(sys.argv) > 1 else 100


def say(text):
    if steps_file:  # of a scenario about the launcher: derail reads it, whatever the launcher shows
        with open(steps_file, "a") as file:
            file.write(f"{text}\n")
    try:
        print(text, flush=True)
    except OSError:  # EPIPE, EIO: the launcher's end of the pipe or terminal is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if rank == "?":
    say("no rank in the environment")
for step in range(1, 101):
    if step <= said:
        say(f"rank {rank}: step {step}")
    time.sleep(0.05)  # noqa: TID251 - this is the work
