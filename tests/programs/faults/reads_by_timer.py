"""Reads from a pipe twice while a timer interrupts it, and prints how long each took."""

import os
import signal
import time

signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
reader, writer = os.pipe()
os.write(writer, b"xx")
for _ in range(2):
    began = time.monotonic()
    os.read(reader, 1)
    print(time.monotonic() - began)
