"""Writes files into a directory until there is an error, and prints its name."""

import errno
import os
import time

PLACE = "."
BYTES = 100_000
for n in range(100):
    try:
        with open(f"{PLACE}/file{n}", "wb", buffering=0) as file:
            file.write(b"x" * BYTES)
    except OSError as error:
        print(n, errno.errorcode[error.errno], flush=True)
        break
print(os.getpid(), "ready", flush=True)
time.sleep(60)
