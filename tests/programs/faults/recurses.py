"""Takes stack, once the limit of it is that (or at once)."""

import resource
import sys
import time

LIMIT = None
sys.setrecursionlimit(1_000_000)


def deep(n):
    return sorted([1], key=lambda _: deep(n - 1) if n else 0)  # by way of C, which takes stack


print("ready", flush=True)
end = time.monotonic() + 120
while LIMIT is not None and resource.getrlimit(resource.RLIMIT_STACK)[0] != LIMIT and time.monotonic() < end:
    time.sleep(0.005)
deep(400)  # with a hundred more, Python 3.12 has too many calls from C, whatever there is of stack
print("done", flush=True)
