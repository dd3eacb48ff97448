"""Rank 0 writes an error file and fails; rank 1 writes one when it is stopped."""

import os
import signal
import time

from error_files import write


def stop(*_):
    write("of rank 1")
    os._exit(4)


if os.environ["RANK"] == "1":
    signal.signal(signal.SIGTERM, stop)
    open("ready", "w").close()
    while True:
        time.sleep(0.05)
while not os.path.exists("ready"):
    time.sleep(0.005)
write("of rank 0")
os._exit(3)
