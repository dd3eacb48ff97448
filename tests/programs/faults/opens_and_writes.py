"""Opens three files of a directory, and writes to each twice."""

import os

DIRECTORY = "."
for name in ("other", "checkpoint-1", "checkpoint-2"):
    try:
        fd = os.open(DIRECTORY + "/" + name, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        print(name, "open", error.errno)
        continue
    for _ in range(2):
        try:
            os.write(fd, b"x")
        except OSError as error:
            print(name, "write", error.errno)
