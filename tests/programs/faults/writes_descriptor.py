"""Tries to write to a descriptor, and tells the error's name by a link, which needs none."""

import errno
import os
import time

FD = 1


def attempt():
    try:
        os.write(FD, b"more\n")
    except OSError as error:
        return errno.errorcode[error.errno]
    return "taken"


os.symlink(attempt(), os.environ["SAYS"])  # which needs no descriptor
time.sleep(60)
