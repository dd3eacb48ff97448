"""A rank that waits for a file, and is hit by faults of every kind."""

import json
import os
import signal
import time


def told(n):
    pass


rank = int(os.environ["RANK"])
signal.signal(signal.SIGTERM, lambda *_: None)
print("ready", flush=True)
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.02)
told(1)
if rank == 0:
    try:
        os.fsync(1)
    except OSError as error:
        print("fsync", error.errno, flush=True)
if rank == 1:
    with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w") as file:
        json.dump({"message": {"message": "mine", "extraInfo": {"timestamp": "1"}}}, file)
