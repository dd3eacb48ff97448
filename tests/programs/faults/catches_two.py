"""Catches two exceptions that were injected."""

import time

caught = 0
print("ready", flush=True)
while caught < 2:
    try:
        time.sleep(60)
    except ConnectionError:
        caught += 1
print("caught", caught, flush=True)
