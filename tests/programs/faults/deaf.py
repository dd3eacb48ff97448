"""Rank 1 ignores SIGTERM; rank 0 fails, unless it is told to run on."""

import os
import signal
import sys
import time

os.write(1, b"pid %d\n" % os.getpid())
if os.environ["RANK"] == "1":
    signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked\n"))
    open("ready", "w").close()
while not os.path.exists("ready"):
    time.sleep(0.005)
if os.environ["RANK"] == "0" and sys.argv[1:] != ["running"]:
    sys.exit(3)
while True:
    time.sleep(60)
