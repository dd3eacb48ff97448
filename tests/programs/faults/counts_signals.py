"""Waits until SIGUSR1 has arrived three times."""

import os
import signal

arrive, note = os.pipe()
os.set_blocking(note, False)
signal.set_wakeup_fd(note)  # a byte for each: Python calls the handler once for two that come before it can
signal.signal(10, lambda *_: None)
print("ready", flush=True)
seen = b""
while len(seen) < 3:
    seen += os.read(arrive, 3)
print("seen", len(seen), flush=True)
