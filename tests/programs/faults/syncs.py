"""Calls fsync until it fails, and prints the error's number."""

import os
import tempfile

with tempfile.TemporaryFile() as file:
    for _ in range(5):
        os.fsync(file.fileno())
    print("ready", flush=True)
    calls = 0
    while True:
        calls += 1
        try:
            os.fsync(file.fileno())
        except OSError as error:
            print(error.errno)
            break
