"""Rank 0 ends at its second signal; rank 1 fails when rank 0 is ready."""

import os
import signal
import sys
import time

if os.environ["RANK"] == "1":
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "work", "journal.jsonl")
    while '"text": "ready"' not in open(path).read():
        time.sleep(0.01)
    sys.exit(3)
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append(1))
signal.signal(signal.SIGINT, lambda *_: got.append(2))
print("ready", flush=True)
while len(got) < 2:
    time.sleep(0.01)
print(*got, flush=True)
sys.exit(0)
