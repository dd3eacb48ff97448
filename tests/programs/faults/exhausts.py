"""Takes files, memory or disk until a limit is there, and prints the error's name."""

import errno
import os
import signal
import sys
import time

WHAT = "files"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def files():
    return [open(os.devnull) for _ in range(64)]


def memory():
    return bytearray(512 << 20)


def size():
    with open("big", "wb") as file:
        file.write(b"x" * 100_000)


print("ready", flush=True)
end = time.monotonic() + 120
while time.monotonic() < end:
    try:
        globals()[WHAT]()
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
        sys.exit(3)
    except MemoryError:
        print("MemoryError", flush=True)
        sys.exit(3)
    time.sleep(0.01)
