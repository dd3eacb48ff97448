"""A call into C ends once an exception was sent to the main thread."""

import os
import time

from when_sent import when_sent

reader, writer = os.pipe()


def end_the_call():
    print(time.monotonic(), flush=True)
    os.write(writer, b"x")


when_sent(end_the_call)
print("ready", flush=True)
os.read(reader, 1)
print("too far", flush=True)
