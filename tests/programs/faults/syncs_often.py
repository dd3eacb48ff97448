"""Calls fsync some times, and prints what each call came to."""

import errno
import os
import tempfile

TIMES = 1
with tempfile.TemporaryFile() as file:
    for _ in range(TIMES):
        try:
            os.fsync(file.fileno())
            print("0", end=" ")
        except OSError as error:
            print(errno.errorcode[error.errno], end=" ")
