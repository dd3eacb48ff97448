"""Opens a file when all its descriptors are taken, and prints the error's name."""

import errno
import os
import resource
import time

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from derail.faults import fail_point

fail_point("full")
try:
    open(os.devnull)
except OSError as error:
    os.write(1, errno.errorcode[error.errno].encode())
os.write(1, b" ready")
time.sleep(60)
