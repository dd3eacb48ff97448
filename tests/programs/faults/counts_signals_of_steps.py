"""Prints six steps, and waits until SIGUSR1 has arrived three times."""

import os
import signal
import time

arrive, note = os.pipe()
os.set_blocking(note, False)
signal.set_wakeup_fd(note)  # a byte for each: Python calls the handler once for two that come before it can
signal.signal(signal.SIGUSR1, lambda *_: None)
for step in range(1, 7):
    print("step", step, flush=True)
    time.sleep(0.05)
got = b""
while len(got) < 3:
    got += os.read(arrive, 3)
print("got", len(got), flush=True)
