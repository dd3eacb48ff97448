"""A step loop that saves when it gets SIGTERM and leaves with code 0; on SIGUSR1 it saves and continues. Of STEPS
steps; RANK continues until five steps after SIGUSR1, or to its hundredth step, and exits with 1 if it never got that.
It also continues without a console."""

import os
import signal
import sys
import time

VARIABLES = "RANK OMPI_COMM_WORLD_RANK PMIX_RANK PMI_RANK SLURM_PROCID"
names = [os.environ.get("DERAIL_RANK_VARIABLE", ""), *VARIABLES.split()]
rank = next((os.environ[name] for name in names if os.environ.get(name)), "?")
steps_file = os.environ.get("DERAIL_STEPS")


def save_and_leave(*_):
    os.write(1, f"rank {rank}: saved on SIGTERM\n".encode())  # and no print: it may be in the middle of one
    sys.exit(0)


def say(text):
    if steps_file:  # of a scenario about the launcher: derail reads it, whatever the launcher shows
        with open(steps_file, "a") as file:
            file.write(f"{text}\n")
    try:
        print(text, flush=True)
    except OSError:  # EPIPE, EIO: the launcher's end of the pipe or terminal is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def save(*_):
    saved.append(step)
    os.write(1, f"rank {rank}: saved on SIGUSR1\n".encode())


if rank == "?":
    say("no rank in the environment")
step, saved = 0, []
signal.signal(signal.SIGTERM, save_and_leave)
signal.signal(signal.SIGUSR1, save)
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
waits = rank in sys.argv[2:]
while step < steps or (waits and step < 100 and (not saved or step < saved[-1] + 5)):
    step += 1
    say(f"rank {rank}: step {step}")
    time.sleep(0.05)  # noqa: TID251 - this is the work
say(f"rank {rank}: done")
sys.exit(1 if waits and not saved else 0)
