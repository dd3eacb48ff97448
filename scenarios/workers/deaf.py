"""A step loop that ignores SIGTERM and SIGINT, as a rank does that is busy in a collective; it prints the first SAID
steps, and goes on without a console."""

import os
import signal
import sys
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
said = int(sys.argv[1]) if len(sys.argv) > 1 else 100


def say(text):
    try:
        print(text, flush=True)
    except OSError:  # EPIPE, EIO: the launcher's end of the pipe or terminal is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


for step in range(1, 101):
    if step <= said:
        say(f"rank {os.environ['RANK']}: step {step}")
    time.sleep(0.05)  # noqa: TID251 - this is the work
