"""Tries to write the error file, prints the error's name, and exits with 3 when the fault is over."""

import errno
import os
import time

try:
    with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w") as file:
        file.write("{}")
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
while '"end"' not in open("work/journal.jsonl").read():
    time.sleep(0.005)
os._exit(3)
