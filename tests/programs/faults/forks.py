"""Forks when the limit of processes is 0, and prints the error's name."""

import errno
import os
import resource
import time

print("ready", flush=True)
end = time.monotonic() + 120
while resource.getrlimit(resource.RLIMIT_NPROC)[0] != 0 and time.monotonic() < end:
    time.sleep(0.005)
try:
    os.fork()
except OSError as error:
    os.write(1, errno.errorcode[error.errno].encode())
os._exit(3)
